"""How well found objects are the true ones, to choose between weights while they are trained."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pipeline.scores.contingency import Overlaps
from pipeline.scores.matching import find_candidates, match

Labels = NDArray[np.integer]
HALF = Fraction(1, 2)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Counts of one image.

    Parameters
    ----------
    matched, missed, wrong : int
        Objects found with an IoU of at least a half; true ones that were not; found ones that
        match none.
    shared_px, either_px : int
        Pixels of any object in both, and in either.
    """

    matched: int
    missed: int
    wrong: int
    shared_px: int
    either_px: int

    @property
    def precision(self) -> float:
        """Matched of all objects, true or found; 1 where there are none, which is right.

        As in Caicedo and others, Nature Methods 16, 2019, doi:10.1038/s41592-019-0612-7.
        """
        every = self.matched + self.missed + self.wrong
        return self.matched / every if every else 1.0

    @property
    def foreground_iou(self) -> float:
        """Shared pixels of those in either; 1 where there are none."""
        return self.shared_px / self.either_px if self.either_px else 1.0


def agreement(truth: Labels, found: Labels) -> Agreement:
    """Compare two label images, as `tilewright evaluate` does.

    Parameters
    ----------
    truth, found : ndarray of the same shape, int
        0 is background.
    """
    overlaps = Overlaps.of_tile(0, truth, found)
    candidates = find_candidates(overlaps)
    matched = len(match(candidates, HALF))
    true, seen = overlaps.truth != 0, overlaps.label != 0
    return Agreement(
        matched,
        candidates.truth_side.count - matched,
        candidates.label_side.count - matched,
        int(overlaps.pixels[true & seen].sum()),
        int(overlaps.pixels[true | seen].sum()),
    )


def class_overlaps(
    truth: Labels, found: Labels, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pixels of each class in both images, and in either; where truth is negative none counts."""
    known = truth >= 0
    shared, either = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for k in range(count):
        a, b = (truth == k) & known, (found == k) & known
        shared[k], either[k] = (a & b).sum(), (a | b).sum()
    return shared, either
