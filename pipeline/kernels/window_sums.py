"""Exact sums over square windows of whole numbers."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

Longs: TypeAlias = npt.NDArray[np.int64]


def window_sums(values: npt.NDArray[np.integer], side: int) -> Longs:
    """Sums over all windows of `side` px on every axis that lie inside the array.

    Parameters
    ----------
    values : ndarray of shape (N, ...), integer
    side : int
        1 or more.

    Returns
    -------
    ndarray of shape (N - side + 1, ...), int64
        Entry i is the sum over i .. i + side - 1. Running sums: a few operations a pixel whatever
        the side, and exact, as long as no sum leaves 64 bits.
    """
    sums: Longs = np.ascontiguousarray(values, dtype=np.int64)
    for axis in range(values.ndim):
        shape = sums.shape
        before, after = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
        kept = (*shape[:axis], max(0, shape[axis] - side + 1), *shape[axis + 1 :])
        out = np.empty((before, kept[axis], after), np.int64)
        _running(sums.reshape(before, shape[axis], after), side, out)
        sums = out.reshape(kept)
    return sums


@njit(cache=True, nogil=True)
def _running(values: Longs, side: int, out: Longs) -> None:
    """Sums along axis 1 of (A, N, B)."""
    lines, count, width = out.shape
    for a in range(lines):
        if count == 0:
            continue
        for b in range(width):
            out[a, 0, b] = 0
        for i in range(side):
            for b in range(width):
                out[a, 0, b] += values[a, i, b]
        for i in range(1, count):
            for b in range(width):
                out[a, i, b] = out[a, i - 1, b] + values[a, i + side - 1, b] - values[a, i - 1, b]
