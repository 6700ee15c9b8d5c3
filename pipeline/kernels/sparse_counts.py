"""Counting what occurs how often under labels, without a table of all that could."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Labels = NDArray[np.uint32]
Longs = NDArray[np.int64]

#: Largest table that is counted in at once; labels beyond it have their turn later.
TABLE = 2**24


def value_counts(labels: Labels, values: NDArray[Any], count: int) -> Longs:
    """How often each value occurs under each label.

    Parameters
    ----------
    labels : ndarray of any shape, uint32
        1..`count`; 0 is background.
    values : ndarray of the same shape, integer

    Returns
    -------
    ndarray of shape (n, 3), int64
        Label, value, pixels; in this order.
    """
    inside = labels > 0
    found = values[inside].astype(np.int64)
    if len(found) == 0:
        return np.empty((0, 3), np.int64)
    low = int(found.min())
    span = int(found.max()) - low + 1
    codes = (labels[inside].astype(np.int64) - 1) * span + (found - low)
    codes, pixels = np.unique(codes, return_counts=True)
    return np.stack([codes // span + 1, codes % span + low, pixels], axis=1)


def pair_counts(labels: Labels, levels: Longs, count: int, steps: Longs, size: int) -> Longs:
    """How often two grey levels occur one step apart within a label.

    Parameters
    ----------
    labels, levels : ndarray of shape (Z, Y, X)
        A window with a halo that holds all `steps`; labels 1..`count`, levels 0..`size` - 1, -1
        for pixels that do not count.
    steps : ndarray of shape (k, 3), int64

    Returns
    -------
    ndarray of shape (n, 5), int64
        Label, number of the step, smaller level, larger level, pairs; in this order. A pair counts
        for the window whose core holds its first pixel.
    """
    halo = np.abs(steps).max(axis=0)
    each = len(steps) * size * size
    chunk = max(1, TABLE // each)
    parts = [np.empty((0, 5), np.int64)]
    for begin in range(0, count, chunk):
        table = np.zeros((min(chunk, count - begin), len(steps), size, size), np.uint32)
        _pair_counts(labels, levels, begin, steps, halo, table)
        places = np.flatnonzero(table)
        index = np.unravel_index(places, table.shape)
        parts.append(
            np.stack([index[0] + begin + 1, *index[1:], table.reshape(-1)[places]], axis=1)
        )
    return np.concatenate(parts)


@njit(cache=True, nogil=True)
def _pair_counts(
    labels: Labels, levels: Longs, begin: int, steps: Longs, halo: Longs, table: NDArray[np.uint32]
) -> None:
    planes, rows, columns = labels.shape
    end = begin + len(table)
    for z in range(halo[0], planes - halo[0]):
        for y in range(halo[1], rows - halo[1]):
            for x in range(halo[2], columns - halo[2]):
                own = np.int64(labels[z, y, x])
                if own <= begin or own > end or levels[z, y, x] < 0:
                    continue
                a = levels[z, y, x]
                for k in range(len(steps)):
                    dz, dy, dx = z + steps[k, 0], y + steps[k, 1], x + steps[k, 2]
                    b = levels[dz, dy, dx]
                    if labels[dz, dy, dx] == own and b >= 0:
                        table[own - 1 - begin, k, min(a, b), max(a, b)] += 1
