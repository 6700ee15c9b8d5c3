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


@njit(cache=True, nogil=True)
def forget_apart(
    own: NDArray[np.int64],
    first: NDArray[np.int64],
    earlier: NDArray[np.int64],
    start: NDArray[np.int64],
    shape: NDArray[np.int64],
    offset: NDArray[np.int64],
    pixels: NDArray[np.uint8],
    threshold: float,
) -> None:
    """Make -1 of the entries of `earlier` whose masks do not overlap by more than a threshold.

    Parameters
    ----------
    own, first, earlier
        As `earlier_overlaps` has them, for masks that it was asked for.
    start, shape : ndarray of shape (n, 3), int64
        Boxes of the masks; in 2D the first axis is 0 and 1.
    offset : ndarray of shape (n,), int64
        First pixel of each mask in `pixels`.
    pixels : ndarray of uint8
        0 or 1, one mask behind the other.
    threshold : float
        Of intersection over union, in whole pixels.
    """
    area = np.full(len(start), -1, np.int64)
    for k in range(len(own)):
        for e in range(first[k], first[k + 1]):
            i, j = own[k], earlier[e]
            for n in (i, j):
                if area[n] < 0:
                    size = shape[n, 0] * shape[n, 1] * shape[n, 2]
                    area[n] = pixels[offset[n] : offset[n] + size].sum()
            both = _common(start, shape, offset, pixels, i, j)
            if not both > threshold * (area[i] + area[j] - both):
                earlier[e] = -1


@njit(cache=True, nogil=True)
def _common(
    start: NDArray[np.int64],
    shape: NDArray[np.int64],
    offset: NDArray[np.int64],
    pixels: NDArray[np.uint8],
    i: int,
    j: int,
) -> int:
    """Pixels that two masks share."""
    low = np.maximum(start[i], start[j])
    high = np.minimum(start[i] + shape[i], start[j] + shape[j])
    found = 0
    for z in range(low[0], high[0]):
        for y in range(low[1], high[1]):
            a = ((z - start[i, 0]) * shape[i, 1] + y - start[i, 1]) * shape[i, 2] - start[i, 2]
            b = ((z - start[j, 0]) * shape[j, 1] + y - start[j, 1]) * shape[j, 2] - start[j, 2]
            for x in range(low[2], high[2]):
                found += pixels[offset[i] + a + x] & pixels[offset[j] + b + x]
    return found
