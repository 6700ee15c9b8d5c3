"""The contract of a segmentation method: a short program of rounds.

A round maps every tile to a small record, then reduces the records, in any order, to the next
shared state. Which round comes next is a pure function of the state, so a program can be stopped
after any round and continued from the state on disk. A round may also emit labels for its tile;
when no round is left, the last labels that each tile emitted are joined into whole objects, or,
where they are classes, published as they are.

    state = {}
    while (step := method.next_round(state, context)) is not None:
        outputs = [step.map(view, state) for view in step.views]     # on workers, any order
        state   = step.reduce(records of the outputs, state)         # in the flow
    join(labels)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from pipeline.companions import Companion
from pipeline.grid import TileGrid
from pipeline.image import ImageInfo
from pipeline.lengths import InUm
from pipeline.records import Record

if TYPE_CHECKING:
    from pipeline.view import TileView

State = Record

ModelT = TypeVar("ModelT", bound="Method")


@dataclass(frozen=True, slots=True)
class Context:
    """What a method may know of an image when it plans its rounds.

    Parameters
    ----------
    name : str
        The image, as the user knows it.
    grid : TileGrid
        Frames and tiles.
    channels : int
        Number of channels that the recipe selects for segmentation.
    dtype : str
        Pixels as the method sees them, after the preprocessing.
    info : ImageInfo
        The image as it is stored.
    companions : dict
        Files beside the image, by what they are for, see `Method.companions`.
    selected : tuple of int
        Numbers of the channels that are segmented.
    """

    name: str
    grid: TileGrid
    channels: int
    dtype: str
    info: ImageInfo
    companions: Mapping[str, Companion] = field(default_factory=dict)
    selected: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TileLabels:
    """Labels of one core, numbered 1..n within the tile.

    How the pieces of one object in several tiles find each other is said in one of three ways,
    which may be combined.

    Parameters
    ----------
    labels : ndarray of shape (\\*core), uint32
        0 is background; every number 1..n occurs.
    touching : int
        Pieces of neighbouring tiles that touch are one object, under this connectivity (4 or 8
        in 2D; 6, 18 or 26 in 3D). 0: touching means nothing.
    keys : ndarray of shape (n,), int64, or None
        Pieces with equal keys of 0 or more are one object; -1 is no key.
    links : ndarray of shape (m, 2), int64
        Rows (number, linear index of a pixel outside the core): the piece belongs to whatever
        object has that pixel.
    kept : ndarray of shape (n,), bool, or None
        An object stays if one of its pieces is kept, else it is background; None keeps all.
    facts : dict of ndarray of shape (n,)
        What is known of the object that a piece belongs to, the same for all its pieces, for the
        columns of `Method.fact_columns`.
    """

    labels: NDArray[np.uint32]
    touching: int = 0
    keys: NDArray[np.int64] | None = None
    links: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), np.int64))
    kept: NDArray[np.bool_] | None = None
    facts: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TileClasses:
    """Classes of one core: a semantic map.

    Parameters
    ----------
    classes : ndarray of shape (\\*core), uint8
        1..n, the numbers of `Method.classes`; 0 where the image has no value.
    probabilities : ndarray of shape (n, \\*core), float32, or None
        Of each class, where `Method.has_probabilities`; 0 where the image has no value.
    """

    classes: NDArray[np.uint8]
    probabilities: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class ClassInfo:
    """A class of a semantic map: its name and its colour, red, green and blue of 0..255."""

    name: str
    color: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Output:
    """What a round makes of one tile: a small record and, if it can, the tile's labels."""

    record: Record
    labels: TileLabels | TileClasses | None = None


class Round(ABC):
    """One pass over the tiles. Must be picklable and must not keep state of its own."""

    name: ClassVar[str]
    #: "dataset": the records of all images are reduced together, before any image goes on.
    scope: Literal["image", "dataset"] = "image"
    #: "gpu": its tiles go to workers that have a GPU, where the cluster has such.
    device: Literal["cpu", "gpu"] = "cpu"
    #: Keys of the state that `map` reads, where the state is large; None: all.
    reads: ClassVar[tuple[str, ...] | None] = None

    def tiles(self, grid: TileGrid, state: State) -> Sequence[int]:
        """Numbers of the tiles to visit; all of them unless overridden."""
        return range(len(grid))

    def tiles_of(self, context: Context, state: State) -> Sequence[int]:
        """The same for one of the images that a dataset-wide round looks at."""
        return self.tiles(context.grid, state)

    def over(self, contexts: Sequence[Context]) -> Round:
        """The dataset-wide round as it is for these images, before it is mapped."""
        return self

    @abstractmethod
    def map(self, view: TileView, state: State) -> Output:
        """Work on one tile. A pure function of the tile's window, `state` and scratch."""

    def combine(self, records: Iterable[Record]) -> Record | None:
        """Merge records of several tiles into one, or None if they must stay apart.

        Where it exists it must be associative and commutative; it spares memory and traffic.
        """
        return None

    @abstractmethod
    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        """Make the next state from (tile number, record) pairs, whatever their order.

        Combined records come with the tile number -1.
        """


class EmittingRound(Round):
    """A round that emits labels or fills scratch, and only leaves its mark `done` in the state."""

    done: ClassVar[str]

    def combine(self, records: Iterable[Record]) -> Record:
        return {}

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        return {**state, self.done: np.array(1)}


class StateRound(Round):
    """A round that visits no tile: it makes the next state of the state alone."""

    def tiles(self, grid: TileGrid, state: State) -> Sequence[int]:
        return ()

    def map(self, view: TileView, state: State) -> Output:
        raise NotImplementedError("it visits no tile")


@dataclass(frozen=True)
class JoinRound(StateRound):
    """The engine joins the labels emitted so far.

    Rounds behind it see whole objects by `TileView.objects`, numbered by the raster rank of their
    first pixels, and may emit labels anew. `done` is the mark that it leaves in the state.
    """

    done: str

    name: ClassVar[str] = "join"

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        return {**state, self.done: np.array(1)}


class Method(InUm, ABC):
    """A segmentation method and its parameters, as a recipe's `segment:` gives them.

    A subclass is a frozen model with a field ``method: Literal["its name"]``. It registers under
    the entry-point group ``tilewright.methods``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Raise it when the same parameters give other labels than before.
    revision: ClassVar[int] = 1
    #: Dimensions of a frame that the method is defined for.
    dims: ClassVar[tuple[int, ...]] = (2, 3)
    #: Whether it can tell the probability of each class.
    soft: ClassVar[bool] = False

    def for_image(self, info: ImageInfo, name: str) -> Self:
        """The method with what an image decides before any pixel is read, in place of "auto".

        The image's plan is made of it, so that no task meets "auto".

        Raises
        ------
        MethodError
            If the image, called `name`, cannot decide it.
        """
        parts = {
            key: part.for_image(info, name)
            for key in type(self).model_fields
            if isinstance(part := getattr(self, key), Method)
        }
        changed = {key: part for key, part in parts.items() if part is not getattr(self, key)}
        return self.model_copy(update=changed) if changed else self

    @abstractmethod
    def next_round(self, state: State, context: Context) -> Round | None:
        """The round that follows `state`; None when every tile has its labels."""

    def classes(self) -> tuple[ClassInfo, ...]:
        """Classes 1..n of a method that gives a semantic map; () where labels are objects."""
        return ()

    def fact_columns(self) -> dict[str, str]:
        """Columns that `TileLabels.facts` bring to the object table: name -> numeric dtype.

        Where holes are filled, an object that takes another in keeps its own. Regions that
        `merge:` makes have none.
        """
        return {}

    def companions(self) -> dict[str, str]:
        """Files beside each image that the method needs: what each is for -> its pattern."""
        return {}

    def earlier_labels(self) -> dict[str, str]:
        """Label images made before by the same recipe that the method needs: what for -> name.

        They are read as companions are, see `TileView.companion_labels`.
        """
        return {}

    def parent_label(self) -> str | None:
        """The earlier label of which every object is made from one object, and has its number.

        The keys of the pieces are then `label_keys` of those numbers. None: objects are numbered by
        the raster rank of their first pixels.
        """
        return None

    def has_probabilities(self) -> bool:
        """Whether the map comes with the probability of each class, as an array of its own."""
        return False

    def is_dataset_wide(self) -> bool:
        """Whether the first rounds look at all images together (`Round.scope` "dataset").

        Those come before all labels: they cannot read `earlier_labels`.
        """
        return False

    def wants_gpu(self) -> bool:
        """Whether some of its rounds want a GPU (`Round.device`)."""
        return False

    @abstractmethod
    def halo_px(self) -> int:
        """Largest halo around a core that a first visit of a tile reads, in px."""

    @abstractmethod
    def peak_bytes_per_px(self) -> float:
        """Memory of the busiest round, in bytes a pixel of its window."""

    def extra_bytes(self, context: Context) -> int:
        """Memory that does not grow with the window but with what the image's companions hold.

        It must not depend on the tiles: `context.grid` is one of several that are tried.
        """
        return 0

    def expected_objects(self, context: Context) -> int | None:
        """About how many objects an image will have; None where that is its own affair."""
        return None

    #: CPU seconds a megapixel, where they do not depend on the parameters.
    seconds_per_megapixel: ClassVar[float] = 0.1

    def cpu_seconds_per_megapixel(self) -> float:
        """CPU seconds a megapixel, for the plan's rough prediction."""
        return self.seconds_per_megapixel

    def scratch_bytes_per_px(self) -> float:
        """Scratch on disk, uncompressed, in bytes a pixel; probabilities are counted apart."""
        return 4.0

    def check(self, context: Context) -> None:
        """Raise MethodError if the method does not apply to this image."""

    def passes(self) -> str:
        """How often the pixels are visited, for the plan: a number or a phrase."""
        return str(self.least_passes())

    def least_passes(self) -> int:
        """How often every tile is visited at least."""
        return 1

    def notes(self) -> tuple[str, ...]:
        """What else a user should know before the run: lines of the plan."""
        return ()

    def certificate(self, state: State) -> dict[str, Any]:
        """What was proven or measured of "tiled equals untiled" in this run."""
        return {"exact": True}
