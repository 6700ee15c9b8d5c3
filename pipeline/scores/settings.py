"""What is asked of a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from pipeline.scores.boundary import OBJECTS
from pipeline.scores.measures import Measure, class_measures, object_measures

#: Of the 2018 Data Science Bowl: 0.50, 0.55, ... 0.95.
THRESHOLDS = tuple(Fraction(n, 100) for n in range(50, 100, 5))


@dataclass(frozen=True, slots=True)
class Settings:
    """What is asked for.

    Parameters
    ----------
    thresholds : tuple of Fraction
        Smallest IoU of pairs; none where the numbers are classes.
    tolerance_px : int
        How far apart two borders may lie, by Euclid.
    classes : tuple of str
        Names of classes 1, 2, ...; empty where the numbers are objects.
    ndim : int or None
        2: objects lie in planes, 3: in volumes; None: as the images say, else in volumes.
    tile_px : int or None
        Side of a tile; None: `TILE_PX`. Never changes a score.
    """

    thresholds: tuple[Fraction, ...] = THRESHOLDS
    tolerance_px: int = 2
    classes: tuple[str, ...] = ()
    ndim: Literal[2, 3] | None = None
    tile_px: int | None = None

    @property
    def groups(self) -> tuple[str, ...]:
        """What borders are counted of."""
        return self.classes or (OBJECTS,)

    def measures(self) -> list[Measure]:
        """The scores that are made of the sums."""
        return class_measures(self.classes) if self.classes else object_measures(self.thresholds)
