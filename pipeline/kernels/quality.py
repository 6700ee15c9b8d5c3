"""Sums of one plane's part from which its quality is told: whole numbers, or floats in one order.

Second differences are taken inside squares of `LATTICE_PX` that begin at multiples of it, so that
no pixel is read twice for the sake of a neighbour: 0.8 % of the pixels, the squares' borders, are
left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

#: Side of the squares; it divides the side of every shard.
LATTICE_PX = 512
#: Entries of `differences`: pixels with neighbours, and over them the sum of the Laplacian, of its
#: square, and of the absolute value of Immerkaer's mask.
DIFFERENCES = 4
#: Entries of `moments`: number, mean, sum of squares around the mean, the smallest and the largest
#: value, and how often each of them occurs.
MOMENTS = 7


@njit(cache=True, nogil=True)
def whole_cells(
    values: NDArray[Any],
    row_cell: NDArray[np.int64],
    column_ends: NDArray[np.int64],
    total: NDArray[np.int64],
    count: NDArray[np.int64],
) -> None:
    """Add up the pixels (Y, X) of every cell of the plane.

    `row_cell` (Y,) is the cell of each row, `column_ends` (n,) the column behind each cell, from
    that of the part's first pixel; cells that the part does not reach end at its ends.
    """
    for y in range(values.shape[0]):
        begin = 0
        for k in range(len(column_ends)):
            part = np.int64(0)
            for x in range(begin, column_ends[k]):
                part += np.int64(values[y, x])
            total[row_cell[y], k] += part
            count[row_cell[y], k] += column_ends[k] - begin
            begin = column_ends[k]


@njit(cache=True, nogil=True)
def float_cells(
    values: NDArray[Any],
    row_cell: NDArray[np.int64],
    column_ends: NDArray[np.int64],
    total: NDArray[np.float64],
    count: NDArray[np.int64],
) -> None:
    """The same of floats, where they are finite."""
    for y in range(values.shape[0]):
        begin = 0
        for k in range(len(column_ends)):
            part = 0.0
            for x in range(begin, column_ends[k]):
                value = np.float64(values[y, x])
                if np.isfinite(value):
                    part += value
                    count[row_cell[y], k] += 1
            total[row_cell[y], k] += part
            begin = column_ends[k]


@njit(cache=True, nogil=True)
def whole_differences(values: NDArray[Any], side: int, differences: NDArray[np.int64]) -> None:
    """Sums of the second differences of whole numbers (Y, X), see `DIFFERENCES`."""
    height, width = values.shape
    for y in range(1, height - 1):
        if y % side == 0 or y % side == side - 1:
            continue
        for left in range(0, width, side):
            right = min(left + side, width)
            first = np.int64(0)
            square = np.uint64(0)
            noise = np.int64(0)
            for x in range(left + 1, right - 1):
                c = np.int32(values[y, x])
                cross = (
                    np.int32(values[y - 1, x])
                    + np.int32(values[y + 1, x])
                    + np.int32(values[y, x - 1])
                    + np.int32(values[y, x + 1])
                )
                corners = (
                    np.int32(values[y - 1, x - 1])
                    + np.int32(values[y - 1, x + 1])
                    + np.int32(values[y + 1, x - 1])
                    + np.int32(values[y + 1, x + 1])
                )
                laplace = np.int32(np.int32(4) * c - cross)
                first += laplace
                size = np.uint64(np.uint32(abs(laplace)))  # of unsigned halves compilers make quick
                square += size * size
                noise += abs(np.int32(np.int32(4) * c - np.int32(2) * cross + corners))
            differences[0] += max(0, right - left - 2)
            differences[1] += first
            differences[2] += np.int64(square)
            differences[3] += noise


@njit(cache=True, nogil=True)
def float_differences(values: NDArray[Any], side: int, differences: NDArray[np.float64]) -> None:
    """The same of floats; a pixel counts whose eight neighbours are finite, too."""
    height, width = values.shape
    for y in range(1, height - 1):
        if y % side == 0 or y % side == side - 1:
            continue
        for left in range(0, width, side):
            right = min(left + side, width)
            known = 0
            first = 0.0
            square = 0.0
            noise = 0.0
            for x in range(left + 1, right - 1):
                c = np.float64(values[y, x])
                cross = (
                    np.float64(values[y - 1, x])
                    + np.float64(values[y + 1, x])
                    + np.float64(values[y, x - 1])
                    + np.float64(values[y, x + 1])
                )
                corners = (
                    np.float64(values[y - 1, x - 1])
                    + np.float64(values[y - 1, x + 1])
                    + np.float64(values[y + 1, x - 1])
                    + np.float64(values[y + 1, x + 1])
                )
                masked = 4.0 * c - 2.0 * cross + corners
                laplace = 4.0 * c - cross
                # Neither is finite where a neighbour is not.
                if np.isfinite(masked) and np.isfinite(laplace):
                    known += 1
                    first += laplace
                    square += laplace * laplace
                    noise += abs(masked)
            differences[0] += known
            differences[1] += first
            differences[2] += square
            differences[3] += noise


@njit(cache=True, nogil=True)
def float_moments(values: NDArray[Any], moments: NDArray[np.float64]) -> None:
    """Of the finite pixels their number, mean, squares around it, and ends: see `MOMENTS`."""
    count = 0
    low = np.inf
    high = -np.inf
    total = 0.0
    for y in range(values.shape[0]):
        part = 0.0
        for x in range(values.shape[1]):
            value = np.float64(values[y, x])
            if np.isfinite(value):
                count += 1
                part += value
                low = min(low, value)
                high = max(high, value)
        total += part
    if count == 0:
        return
    mean = total / count
    squares = 0.0
    at_low = 0
    at_high = 0
    for y in range(values.shape[0]):
        part = 0.0
        for x in range(values.shape[1]):
            value = np.float64(values[y, x])
            if np.isfinite(value):
                part += (value - mean) * (value - mean)
                at_low += value == low
                at_high += value == high
        squares += part
    moments[0] = count
    moments[1] = mean
    moments[2] = squares
    moments[3] = low
    moments[4] = high
    moments[5] = at_low
    moments[6] = at_high


@njit(cache=True, nogil=True)
def count_floats(bits: NDArray[np.uint32], dropped: int, counts: NDArray[np.int32]) -> None:
    """Count the bits of finite float32 values by their order, without the `dropped` lowest bits."""
    for y in range(bits.shape[0]):
        for x in range(bits.shape[1]):
            one = bits[y, x]
            if one & np.uint32(0x7F800000) == np.uint32(0x7F800000):
                continue
            key = ~one if one >> np.uint32(31) else one | np.uint32(0x80000000)
            counts[np.int64(key) >> dropped] += 1
