"""Seeds of several pixels within one core."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.kernels.rows import with_room

Values: TypeAlias = NDArray[np.float32 | np.float64]
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int32]
Longs: TypeAlias = NDArray[np.int64]


def starts_of(marks: Ints, values: Values, bounds: Floats) -> Longs:
    """Pixels to start from: enough of every mark's pixels to reach all of its patches.

    Parameters
    ----------
    marks : ndarray of shape (Z, Y, X), int32
        Number of the seed that a pixel belongs to, from 1; 0: none.
    values : ndarray of the same shape, float32 or float64
    bounds : ndarray of shape (n, 2), float64
        Interval of each seed; NaN: none.

    Returns
    -------
    ndarray of shape (m, 2), int64
        Seed, from 0, and raster index, in raster order; all inside the seed's interval.
    """
    found: Longs = _starts_of(marks, values, bounds)
    return found


def sums_of_marks(
    marks: Ints, values: Values, seeds: int, quantum: tuple[float, float]
) -> tuple[Longs, Floats]:
    """Sums of the grey values under the marks; NaN is left out.

    Parameters
    ----------
    marks, values
        As for `starts_of`.
    seeds : int
        Largest mark.
    quantum : tuple of float
        Offset and step in which values are summed.

    Returns
    -------
    sums : ndarray of shape (seeds, 2), int64
        Number of pixels, and their sum in steps.
    extremes : ndarray of shape (seeds, 2), float64
        Smallest and largest value; (inf, -inf) where there is none.
    """
    sums = np.zeros((seeds, 2), np.int64)
    extremes = np.tile(np.array([np.inf, -np.inf]), (seeds, 1))
    _sums_of_marks(
        marks.reshape(-1), values.reshape(-1), quantum[0], 1.0 / quantum[1], sums, extremes
    )
    return sums, extremes


@njit(cache=True, nogil=True)
def _starts_of(marks: Ints, values: NDArray[Any], bounds: Floats) -> Longs:
    planes, rows, columns = values.shape
    found = np.empty((64, 2), np.int64)
    count = 0
    for z in range(planes):
        for y in range(rows):
            before = 0  # the mark to the left, where it is inside its interval
            for x in range(columns):
                mark = marks[z, y, x]
                if mark > 0:
                    low, high = bounds[mark - 1, 0], bounds[mark - 1, 1]
                    if not low <= values[z, y, x] <= high:
                        mark = 0
                if mark > 0 and mark != before:
                    found = with_room(found, count, 1)
                    found[count, 0] = mark - 1
                    found[count, 1] = (z * rows + y) * columns + x
                    count += 1
                before = mark
    return found[:count].copy()


@njit(cache=True, nogil=True)
def _sums_of_marks(
    marks: Ints,
    values: NDArray[Any],
    offset: float,
    per_unit: float,
    sums: Longs,
    extremes: Floats,
) -> None:
    for p in range(marks.size):
        value = np.float64(values[p])
        if marks[p] == 0 or np.isnan(value):
            continue
        i = marks[p] - 1
        sums[i, 0] += 1
        sums[i, 1] += np.int64(np.rint((value - offset) * per_unit))
        extremes[i, 0] = min(extremes[i, 0], value)
        extremes[i, 1] = max(extremes[i, 1], value)
