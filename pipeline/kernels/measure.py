"""Sums over the labels of one core, made so that sums of parts add up to the whole, exactly.

All accumulators are integers. Intensities are integers already, or are counted in stated steps
of the image's value range (`Quantum`), so no result depends on the order of additions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

#: Steps into which the value range of float and 32-bit images is cut before summing: a mean is
#: off by at most half a step, 2.4e-10 of the image's range.
STEPS = 2**31 - 1
SECOND_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


@dataclass(frozen=True, slots=True)
class Quantum:
    """value = offset + step * q, with q an integer in [0, 2**31)."""

    offset: float
    step: float

    @classmethod
    def of(cls, dtype: np.dtype[np.generic], low: float, high: float) -> Quantum:
        """Whole numbers for integers of up to 16 bits, else `STEPS` steps from low to high."""
        if dtype.kind in "iu" and dtype.itemsize <= 2:
            return cls(float(np.iinfo(dtype.name).min), 1.0)
        span = high - low
        return cls(low, span / STEPS if span > 0 else 1.0)


@njit(cache=True, nogil=True)
def _geometry(
    labels: NDArray[np.uint32],
    area: NDArray[np.int64],
    first: NDArray[np.int64],
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    sums: NDArray[np.int64],
    seconds: NDArray[np.int64],
) -> None:
    depth, height, width = labels.shape
    for z in range(depth):
        for y in range(height):
            x = 0
            while x < width:
                label = labels[z, y, x]
                begin = x
                x += 1
                while x < width and labels[z, y, x] == label:
                    x += 1
                if label == 0:
                    continue
                i = np.int64(label) - 1
                n = np.int64(x - begin)
                if area[i] == 0:
                    first[i] = (np.int64(z) * height + y) * width + begin
                    start[i, 0] = z
                    start[i, 1] = y
                    start[i, 2] = begin
                    stop[i, 1] = y + 1
                area[i] += n
                start[i, 1] = min(start[i, 1], y)
                start[i, 2] = min(start[i, 2], begin)
                stop[i, 0] = z + 1
                stop[i, 1] = max(stop[i, 1], y + 1)
                stop[i, 2] = max(stop[i, 2], x)
                last = np.int64(x - 1)
                sum_x = (begin + last) * n // 2
                # Sum of squares from 0 to m is m (m + 1) (2 m + 1) / 6.
                below = np.int64(begin - 1)
                square_x = (
                    last * (last + 1) * (2 * last + 1) - below * (below + 1) * (2 * below + 1)
                ) // 6
                sums[i, 0] += z * n
                sums[i, 1] += y * n
                sums[i, 2] += sum_x
                seconds[i, 0] += np.int64(z) * z * n
                seconds[i, 1] += np.int64(z) * y * n
                seconds[i, 2] += z * sum_x
                seconds[i, 3] += np.int64(y) * y * n
                seconds[i, 4] += y * sum_x
                seconds[i, 5] += square_x


@njit(cache=True, nogil=True)
def _whole_numbers(
    labels: NDArray[np.uint32],
    values: NDArray[np.generic],
    offset: int,
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    total: NDArray[np.int64],
    square: NDArray[np.int64],
) -> None:
    rows, width = labels.shape
    for y in range(rows):
        x = 0
        while x < width:
            label = labels[y, x]
            if label == 0:
                x += 1
                continue
            i = np.int64(label) - 1
            small = low[i]
            large = high[i]
            part = np.int64(0)
            part2 = np.int64(0)
            while x < width and labels[y, x] == label:
                q = np.int64(values[y, x]) - offset
                small = min(small, q)
                large = max(large, q)
                part += q
                part2 += q * q
                x += 1
            low[i] = small
            high[i] = large
            total[i] += part
            square[i] += part2


@njit(cache=True, nogil=True)
def _steps(
    labels: NDArray[np.uint32],
    values: NDArray[np.generic],
    offset: float,
    per_unit: float,
    count: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    total: NDArray[np.int64],
    square_high: NDArray[np.int64],
    square_low: NDArray[np.int64],
) -> None:
    rows, width = labels.shape
    for y in range(rows):
        for x in range(width):
            label = labels[y, x]
            if label == 0:
                continue
            value = np.float64(values[y, x])
            if not np.isfinite(value):
                continue
            i = np.int64(label) - 1
            q = np.int64(np.rint((value - offset) * per_unit))
            count[i] += 1
            low[i] = min(low[i], q)
            high[i] = max(high[i], q)
            total[i] += q
            q2 = q * q
            square_high[i] += q2 >> 32
            square_low[i] += q2 & 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sums of coordinates, in px from the core's origin; always three axes (Z, Y, X).

    `first` is the smallest raster index within the core, `seconds` holds the sums of products in
    the order of `SECOND_PAIRS`.
    """

    area: NDArray[np.int64]
    first: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    sums: NDArray[np.int64]
    seconds: NDArray[np.int64]


def geometry(labels: NDArray[np.unsignedinteger[Any]], count: int) -> Geometry:
    """Measure where the labels 1..`count` of an array of shape (Y, X) or (Z, Y, X) lie."""
    labels3 = labels.reshape((1, *labels.shape)) if labels.ndim == 2 else labels
    result = Geometry(
        np.zeros(count, np.int64),
        np.zeros(count, np.int64),
        np.zeros((count, 3), np.int64),
        np.zeros((count, 3), np.int64),
        np.zeros((count, 3), np.int64),
        np.zeros((count, 6), np.int64),
    )
    _geometry(
        labels3,
        result.area,
        result.first,
        result.start,
        result.stop,
        result.sums,
        result.seconds,
    )
    return result


@dataclass(frozen=True, slots=True)
class Intensity:
    """Sums of one channel in steps of its `Quantum`; the square sum is high * 2**32 + low."""

    count: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    total: NDArray[np.int64]
    square_high: NDArray[np.int64]
    square_low: NDArray[np.int64]


def intensity(
    labels: NDArray[np.unsignedinteger[Any]],
    values: NDArray[np.generic],
    area: NDArray[np.int64],
    quantum: Quantum,
) -> Intensity:
    """Measure one channel under the labels; pixels that are not finite are left out.

    Parameters
    ----------
    labels : ndarray of shape (..., X), uint32
    values : ndarray of the same shape, real
    area : ndarray of shape (n,), int64
        Pixels a label.
    """
    n = len(area)
    flat_labels = labels.reshape(-1, labels.shape[-1])
    flat_values = values.reshape(flat_labels.shape)
    low = np.full(n, STEPS, np.int64)
    high = np.full(n, -1, np.int64)
    total = np.zeros(n, np.int64)
    square_low = np.zeros(n, np.int64)
    square_high = np.zeros(n, np.int64)
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 2:
        _whole_numbers(flat_labels, flat_values, int(quantum.offset), low, high, total, square_low)
        count = area.copy()
        square_high, square_low = square_low >> 32, square_low & 0xFFFFFFFF
    else:
        count = np.zeros(n, np.int64)
        _steps(
            flat_labels,
            flat_values,
            quantum.offset,
            1.0 / quantum.step,
            count,
            low,
            high,
            total,
            square_high,
            square_low,
        )
    return Intensity(count, low, high, total, square_high, square_low)
