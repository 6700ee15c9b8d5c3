"""How far apart the two best scores of every pixel are, in one pass."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


def count_near(scores: NDArray[np.float32], limits: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many pixels have their two best scores at most each of the limits apart.

    Parameters
    ----------
    scores : ndarray of shape (K, \\*S), float32
        K is 2 or more. Pixels whose difference is not a number count as near.
    limits : ndarray of shape (n,), float64
        Ascending.

    Returns
    -------
    ndarray of shape (n,), int64
    """
    flat = np.ascontiguousarray(scores).reshape(len(scores), -1)
    return np.cumsum(_between(flat, limits))


@njit(cache=True, nogil=True)
def _between(scores: NDArray[np.float32], limits: NDArray[np.float64]) -> NDArray[np.int64]:
    counts = np.zeros(len(limits), np.int64)
    for i in range(scores.shape[1]):
        best = second = np.float32(-np.inf)
        known = True
        for k in range(scores.shape[0]):
            score = scores[k, i]
            if np.isnan(score):
                known = False
            elif score > best:
                best, second = score, best
            elif score > second:
                second = score
        margin = np.float64(best) - np.float64(second)
        if known and margin > limits[-1]:
            continue
        place = 0
        if known and margin > limits[0]:
            place = int(np.searchsorted(limits, margin))
        counts[place] += 1
    return counts
