"""Which of many boxes or masks overlap, and what is suppressed by that."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

#: What is known of a candidate.
UNDECIDED, KEPT, SUPPRESSED = 0, 1, 2


@njit(cache=True, nogil=True)
def box_overlap(start: NDArray[np.float64], stop: NDArray[np.float64], i: int, j: int) -> float:
    """Intersection over union of two boxes, the same bits for (i, j) and (j, i)."""
    both, first, second = 1.0, 1.0, 1.0
    for axis in range(start.shape[1]):
        side = min(stop[i, axis], stop[j, axis]) - max(start[i, axis], start[j, axis])
        if side <= 0:
            return 0.0
        both *= side
        first *= stop[i, axis] - start[i, axis]
        second *= stop[j, axis] - start[j, axis]
    return both / (first + second - both)


@njit(cache=True, nogil=True)
def earlier_overlaps(
    start: NDArray[np.float64],
    stop: NDArray[np.float64],
    rank: NDArray[np.int64],
    group: NDArray[np.int64],
    own: NDArray[np.int64],
    threshold: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Boxes that come before others of their group and overlap them by more than a threshold.

    Parameters
    ----------
    start, stop : ndarray of shape (n, ndim), float64
    rank, group : ndarray of shape (n,), int64
    own : ndarray of shape (m,), int64
        Boxes that are asked for.
    threshold : float
        Of intersection over union; 0: they share something.

    Returns
    -------
    first : ndarray of shape (m + 1,), int64
        Those before `own[k]` are `earlier[first[k] : first[k + 1]]`.
    earlier : ndarray of int64
    """
    first = np.zeros(len(own) + 1, np.int64)
    earlier = np.empty(max(16, 4 * len(own)), np.int64)
    count = 0
    for k in range(len(own)):
        i = own[k]
        for j in range(len(rank)):
            if rank[j] >= rank[i] or group[j] != group[i]:
                continue
            if box_overlap(start, stop, i, j) > threshold:
                if count == len(earlier):
                    longer = np.empty(2 * count, np.int64)
                    longer[:count] = earlier
                    earlier = longer
                earlier[count] = j
                count += 1
        first[k + 1] = count
    return first, earlier[:count].copy()


@njit(cache=True, nogil=True)
def decide(
    own: NDArray[np.int64],
    first: NDArray[np.int64],
    earlier: NDArray[np.int64],
    status: NDArray[np.int8],
) -> None:
    """Decide candidates, in the order of `own`, from what is known of those before them.

    One is suppressed if one before it is kept, and kept if all before it are suppressed. Entries of
    `earlier` below 0 do not count. `status` is changed.
    """
    for k in range(len(own)):
        if status[own[k]] != UNDECIDED:
            continue
        found = KEPT
        for j in earlier[first[k] : first[k + 1]]:
            if j < 0:
                continue
            if status[j] == KEPT:
                found = SUPPRESSED
                break
            if status[j] == UNDECIDED:
                found = UNDECIDED
        status[own[k]] = found
