"""Seeds: where regions begin, as a recipe's `seeds:` gives them.

Every kind of seeds is gathered by one round over the tiles that may hold some. It leaves in the
state what all kinds have in common: a grey value for each seed, and which tiles hold its pixels.
The seeds are numbered in their order of precedence, from 0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from pipeline.annotations.points import read_points
from pipeline.companions import Pattern
from pipeline.foreground import ForegroundRule
from pipeline.lengths import InUm, Length, Lengths, per_axis
from pipeline.methods.base import Context, Round, State
from pipeline.methods.checks import check_label_image
from pipeline.seed_rounds import (
    CENTRE,
    COMPANION,
    FRAME,
    NUMBER,
    PIXEL,
    START_SEED,
    START_TILE,
    FindSeedPeaks,
    ReadSeedLabels,
    ReadSeedPoints,
    SeedMarks,
    marks_of_numbers,
)
from pipeline.view import TileView


class Seeds(InUm, ABC):
    """Seeds of one kind; `from:` says which."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_by_name=True, serialize_by_alias=True
    )

    @abstractmethod
    def gather(self, context: Context) -> Round:
        """The round that puts them into the state."""

    def next_round(self, state: State, context: Context) -> Round | None:
        """The next round until the seeds are in the state."""
        return None if CENTRE in state else self.gather(context)

    def marks(self, view: TileView, state: State) -> SeedMarks:
        """The seeds of a core: number + 1 at each of their pixels, 0 elsewhere.

        Returns
        -------
        ndarray of shape (\\*core), int32
        """
        core = view.tile.core
        found = np.zeros(core.shape, np.int32)
        mine = state[START_TILE] == view.tile.number
        seeds = state[START_SEED][mine]
        frame_size = int(np.prod(view.grid.shape))
        place = np.unravel_index(state[PIXEL][seeds] % frame_size, view.grid.shape)
        found[tuple(p - a for p, a in zip(place, core.start, strict=True))] = seeds + 1
        return found

    def companions(self) -> dict[str, str]:
        """Files beside the image that they need."""
        return {}

    def earlier_labels(self) -> dict[str, str]:
        """Labels made before, see `Method.earlier_labels`."""
        return {}

    def check(self, context: Context) -> None:
        """Raise MethodError if there are no such seeds for this image."""

    def halo_px(self) -> int:
        return 0

    def least_passes(self) -> int:
        """How often every tile is visited to gather them."""
        return 1

    def is_dataset_wide(self) -> bool:
        return False


class PointSeeds(Seeds):
    """One seed a marked pixel, in the order of the file.

    `file`: the file beside the image, see `pipeline.companions` for patterns and
    `pipeline.annotations.points` for the kinds of files.
    """

    kind: Literal["points"] = Field(alias="from")
    file: Pattern = "{stem}.seeds.csv"

    def gather(self, context: Context) -> Round:
        return ReadSeedPoints(
            context.companions[COMPANION], context.info, context.name, context.grid
        )

    def companions(self) -> dict[str, str]:
        return {COMPANION: self.file}

    def check(self, context: Context) -> None:
        read_points(context.companions[COMPANION], context.info, context.name)

    def least_passes(self) -> int:
        return 0


class NumberedSeeds(Seeds):
    """One seed a number of a label image, with all its pixels, in the order of numbers.

    0 is no seed. In 2D a number is a seed of its own in each plane.
    """

    def gather(self, context: Context) -> Round:
        return ReadSeedLabels(context.grid)

    def marks(self, view: TileView, state: State) -> SeedMarks:
        labels: NDArray[Any] = view.companion_labels(COMPANION, view.tile.core)
        frame = state[FRAME] == view.tile.frame
        seeds = np.flatnonzero(frame).astype(np.int32)
        return marks_of_numbers(labels, state[NUMBER][frame], seeds + 1)

    def check(self, context: Context) -> None:
        check_label_image(COMPANION, context)


class LabelSeeds(NumberedSeeds):
    """The numbers of a label image beside the image, see `NumberedSeeds`.

    `file`: the label image, of the image's size.
    """

    kind: Literal["labels"] = Field(alias="from")
    file: Pattern = "{stem}.seeds.tif"

    def companions(self) -> dict[str, str]:
        return {COMPANION: self.file}


class EarlierLabelSeeds(NumberedSeeds):
    """The objects of a label that the same recipe has made before, see `NumberedSeeds`."""

    kind: Literal["label"] = Field(alias="from")
    label: str

    def earlier_labels(self) -> dict[str, str]:
        return {COMPANION: self.label}


Apart = Annotated[int, Field(ge=0, le=200)]


class PeakSeeds(Seeds):
    """One seed a local maximum (or minimum) of the grey values, in raster order.

    `foreground`: which pixels may be peaks, and whether bright or dark ones are sought.
    `min_distance_px`: peaks are farther apart than this (largest coordinate difference); the
    highest wins, then the first in raster order. It may be one number an axis; `min_distance_um`:
    the same in um.
    """

    kind: Literal["peaks"] = Field(default="peaks", alias="from")
    foreground: ForegroundRule = ForegroundRule()
    min_distance_px: Apart | tuple[Apart, ...] = 5
    min_distance_um: float | None = Field(default=None, ge=0)

    lengths: ClassVar[Lengths] = {"min_distance_um": Length("min_distance_px", "steps")}

    def next_round(self, state: State, context: Context) -> Round | None:
        survey = self.foreground.next_round(state, context)
        return survey or super().next_round(state, context)

    def gather(self, context: Context) -> Round:
        return FindSeedPeaks(self.foreground, self.min_distance_px, context.grid)

    def halo_px(self) -> int:
        return max(1, *per_axis(self.min_distance_px, 1))

    def least_passes(self) -> int:
        return 2 if self.foreground.is_surveyed else 1

    def is_dataset_wide(self) -> bool:
        return self.foreground.is_dataset_wide()


AnySeeds = Annotated[
    PointSeeds | LabelSeeds | EarlierLabelSeeds | PeakSeeds, Field(discriminator="kind")
]
