"""Methods that give every pixel a class by a model of the whole image.

The model is found in rounds that look at all pixels or at a sample of them, and is then the same
for all tiles. What is published is the map of classes, or the objects that pixels of some classes
form.

    [survey or fit ...] -> classes of every core -> published as they are
                        -> components of the chosen classes -> joined to objects
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.kernels.components import components
from pipeline.kernels.relabel import relabel
from pipeline.methods.base import (
    ClassInfo,
    Context,
    EmittingRound,
    Method,
    Output,
    Round,
    State,
    TileClasses,
    TileLabels,
)
from pipeline.methods.checks import check_connectivity, or_full
from pipeline.methods.registry import soft_methods
from pipeline.view import TileView

DONE = "classifier.done"

#: What a classifier may publish; not every one can tell probabilities.
OutputKind = Literal["classes", "labels", "probabilities"]

Color = Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$")]

#: Okabe and Ito's colours, which most colour-blind people tell apart; repeated after the last.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")


class Classifier(Method):
    """Fields that all classifying methods have.

    `output`: "classes" publishes the class of every pixel, numbered from 1; 0 is a pixel without
    a value. "probabilities" publishes the same and, where the method can tell it, the probability
    of each class. "labels" publishes objects: connected components of the pixels of
    `object_classes` (by default the last class), under `connectivity`: 4 or 8 in 2D; 6, 18 or 26 in
    3D; by default 8 and 26. `class_names`, `class_colors` ("#rrggbb"): of each class, for viewers
    and the table.
    """

    output: OutputKind = "classes"
    object_classes: tuple[int, ...] | None = Field(default=None, min_length=1)
    connectivity: Literal[4, 8, 6, 18, 26] | None = None
    class_names: tuple[str, ...] | None = None
    class_colors: tuple[Color, ...] | None = None

    @abstractmethod
    def class_count(self) -> int:
        """Number of classes n."""

    @abstractmethod
    def model_round(self, state: State, context: Context) -> Round | None:
        """The next round of finding the model; None when `state` holds it."""

    @abstractmethod
    def classify(self, view: TileView, state: State, halo_px: int = 0) -> NDArray[np.uint8]:
        """Class of each pixel of a window: 1..n, or 0 where the image has no value."""

    @model_validator(mode="after")
    def _classes_exist(self) -> Self:
        n = self.class_count()
        if self.output == "probabilities" and not self.soft:
            name = type(self).model_fields["method"].annotation
            raise ValueError(
                f"{get_args(name)[0]} tells the class of a pixel, but not how probable it is; "
                f"`output: probabilities` is given by {', '.join(soft_methods())}"
            )
        for key in ("class_names", "class_colors"):
            given = getattr(self, key)
            if given is not None and len(given) != n:
                raise ValueError(f"{key} has {len(given)} entries for {n} classes")
        outside = [c for c in self.object_classes or () if not 1 <= c <= n]
        if outside:
            raise ValueError(f"object_classes has {outside[0]}; classes are 1 to {n}")
        if self.object_classes is not None and self.output != "labels":
            raise ValueError("object_classes need `output: labels`")
        return self

    def mask(self, view: TileView, state: State, halo_px: int = 0) -> NDArray[np.bool_]:
        """Pixels of a window that belong to objects."""
        wanted = np.zeros(self.class_count() + 1, np.bool_)
        wanted[list(self.object_classes or (self.class_count(),))] = True
        return relabel(self.classify(view, state, halo_px), wanted)

    def next_round(self, state: State, context: Context) -> Round | None:
        finding = self.model_round(state, context)
        if finding is not None:
            return finding
        if DONE in state:
            return None
        if self.output == "labels":
            return LabelObjects(self, or_full(self.connectivity, context.grid.ndim))
        return MapClasses(self)

    def tile_classes(self, view: TileView, state: State) -> TileClasses:
        """What a map says of a core."""
        return TileClasses(self.classify(view, state))

    def has_probabilities(self) -> bool:
        return self.output == "probabilities"

    def classes(self) -> tuple[ClassInfo, ...]:
        if self.output == "labels":
            return ()
        names = self.class_names or self.default_names()
        colors = self.class_colors or [PALETTE[i % len(PALETTE)] for i in range(len(names))]
        return tuple(
            ClassInfo(name, (int(c[1:3], 16), int(c[3:5], 16), int(c[5:7], 16)))
            for name, c in zip(names, colors, strict=True)
        )

    def default_names(self) -> tuple[str, ...]:
        """Names of the classes where the recipe gives none."""
        return tuple(f"class {i + 1}" for i in range(self.class_count()))

    def check(self, context: Context) -> None:
        check_connectivity(self.connectivity, context)

    #: Whether it tells how much a pixel is the middle of an object.
    tells_objectness: ClassVar[bool] = False

    def objectness(self, view: TileView, halo_px: int = 0) -> NDArray[np.float32]:
        """How much each pixel of a window is the middle of an object, where the method tells it."""
        raise NotImplementedError(f"{type(self).__name__} tells no objectness")

    def dark_objects(self) -> bool:
        """Whether the objects are darker than what surrounds them."""
        return False

    def support_px(self) -> int:
        """How far away pixels can change a class."""
        return 0

    def halo_px(self) -> int:
        return self.support_px()


@dataclass(frozen=True)
class MapClasses(EmittingRound):
    """Publish the class of every pixel."""

    classifier: Classifier

    name: ClassVar[str] = "classes"
    done: ClassVar[str] = DONE

    def map(self, view: TileView, state: State) -> Output:
        return Output({}, self.classifier.tile_classes(view, state))


@dataclass(frozen=True)
class LabelObjects(EmittingRound):
    """Label the components of the objects' pixels in every core."""

    classifier: Classifier
    connectivity: int

    name: ClassVar[str] = "components"
    done: ClassVar[str] = DONE

    def map(self, view: TileView, state: State) -> Output:
        labels, _ = components(self.classifier.mask(view, state), self.connectivity)
        return Output({}, TileLabels(labels, touching=self.connectivity))
