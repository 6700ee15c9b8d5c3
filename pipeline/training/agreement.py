"""How well found objects are the true ones: counts of pairs that overlap by more than half.

A minimum, to choose between weights while they are trained.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Counts of one image.

    Parameters
    ----------
    matched, missed, wrong : int
        Objects found with an overlap above the limit; true ones that were not; found ones that
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
        """Matched of all objects, true or found; 1 where there are none.

        As in Caicedo and others, Nature Methods 16, 2019, doi:10.1038/s41592-019-0612-7.
        """
        every = self.matched + self.missed + self.wrong
        return self.matched / every if every else 1.0

    @property
    def foreground_iou(self) -> float:
        """Shared pixels of those in either; 1 where there are none."""
        return self.shared_px / self.either_px if self.either_px else 1.0


def agreement(truth: Labels, found: Labels, limit: float = 0.5) -> Agreement:
    """Compare two label images.

    Parameters
    ----------
    truth, found : ndarray of the same shape, int
        0 is background.
    limit : float
        Intersection over union that a pair must exceed; from 1/2 on, a pair is the only one of
        both.
    """
    true_ids, true = np.unique(truth, return_inverse=True)
    found_ids, seen = np.unique(found, return_inverse=True)
    table = np.bincount(
        true.ravel() * len(found_ids) + seen.ravel(), minlength=len(true_ids) * len(found_ids)
    ).reshape(len(true_ids), len(found_ids))
    either = table.sum(1)[:, None] + table.sum(0) - table
    objects = np.ix_(true_ids > 0, found_ids > 0)
    matched = int((table[objects] > limit * either[objects]).sum())
    both, total = (truth > 0) & (found > 0), (truth > 0) | (found > 0)
    return Agreement(
        matched,
        int((true_ids > 0).sum()) - matched,
        int((found_ids > 0).sum()) - matched,
        int(both.sum()),
        int(total.sum()),
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
