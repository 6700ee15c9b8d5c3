"""How far rounding moves a network's numbers, and how many pixels it could give another class.

Pixels are counted by distances, in whole numbers: those of their two best scores, so that the
number below any epsilon can be told once epsilon is known; and those of two ways to compute them,
so that an epsilon can be told that most of them keep.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels.margins import count_near

#: Distances that are counted up to: four a decade.
LIMITS = 10.0 ** np.linspace(-8, 0, 33)
#: Share of the checked pixels that is within epsilon where a network chooses places.
KEPT = 0.99


def count_margins(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """How many pixels have a margin of at most each of `LIMITS`.

    Parameters
    ----------
    scores : ndarray of shape (K, \\*S), float32
        Of every class.

    Returns
    -------
    ndarray of shape (33,), int64
    """
    if len(scores) < 2:
        return np.zeros(len(LIMITS), np.int64)
    return count_near(scores, LIMITS)


def uncertain_pixels(counts: NDArray[np.int64], epsilon: float, pixels: int) -> int:
    """At most how many of all `pixels` have a margin of 2 `epsilon` or less."""
    if epsilon == 0:
        return 0
    place = int(np.searchsorted(LIMITS, 2 * epsilon))  # NaN is behind all
    return int(counts[place]) if place < len(counts) else pixels


def count_distances(distances: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many of some distances are at most each of `LIMITS`: shape (33,), int64."""
    return np.searchsorted(np.sort(distances, axis=None), LIMITS, side="right").astype(np.int64)


def epsilon_of_most(counts: NDArray[np.int64], pixels: int, largest: float) -> tuple[float, int]:
    """The smallest of `LIMITS` that 99 % of the distances keep, and how many are farther.

    Parameters
    ----------
    counts : ndarray of shape (33,), int64
        By `count_distances`.
    pixels : int
        The number of all distances.
    largest : float
        Of all distances; the answer where even that is less, or no limit is enough.
    """
    place = int(np.searchsorted(counts, KEPT * pixels))
    if place == len(counts) or largest <= LIMITS[place]:
        return largest, 0
    return float(LIMITS[place]), int(pixels - counts[place])
