"""Sums over the labels of one core, made so that sums of parts add up to the whole, exactly.

All accumulators are integers. Intensities are integers already, or are counted in stated steps
of the image's value range (`Quantum`) and in 2**31 parts of a step, so no result depends on the
order of additions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

#: Steps into which the value range of float and 32-bit images is cut, at most.
STEPS = 2**31 - 1
#: Parts of a step: a mean is off by less than 2**-61 of the image's range.
PARTS = 2.0**31
SECOND_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
LARGEST, SMALLEST = np.iinfo(np.int64).max, np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Quantum:
    """value = offset + step * q, with q an integer in [0, 2**31).

    The step is a power of two, and the offset a multiple of it where the range is wide: so whole
    numbers stay whole, whatever their type.
    """

    offset: float
    step: float

    @classmethod
    def of(cls, dtype: np.dtype[np.generic], low: float, high: float) -> Quantum:
        """Steps of 1 for integers wherever that is enough, else `STEPS` of them at most."""
        if is_short(dtype):
            return cls(float(np.iinfo(dtype.name).min), 1.0)
        if dtype.kind in "iu" and high - low <= STEPS:
            return cls(low, 1.0)
        if not (np.isfinite(low) and np.isfinite(high) and high > low):
            return cls(low, 1.0)
        # Halved, for the span of all floats is none.
        half = high / 2 - low / 2
        step = math.ldexp(1.0, max(math.frexp(half / (STEPS - 1))[1] + 1, -1000) if half else -1000)
        return cls(math.floor(low / step) * step, step)


def is_short(dtype: np.dtype[np.generic]) -> bool:
    """Whether values are whole numbers of at most 16 bits, which are summed as they are."""
    return dtype.kind in "iu" and dtype.itemsize <= 2


def ordered(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Whole numbers in the order of float64 values, so that extremes merge like sums."""
    bits = (values + 0.0).view(np.int64)  # -0 is 0
    return bits ^ ((bits >> 63) & LARGEST)


def from_ordered(numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """The values that `ordered` gave these numbers."""
    bits: NDArray[np.int64] = numbers ^ ((numbers >> 63) & LARGEST)
    return bits.view(np.float64)


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
    extremes: NDArray[np.float64],
    sums: NDArray[np.int64],
) -> None:
    # Scaling by a power of two loses nothing, and nothing overflows that the range allows. Whole
    # steps are taken off the offset, not off the value: a far offset would take its last digits.
    base = offset * per_unit
    first = np.rint(base)
    rest = base - first
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
            extremes[i, 0] = min(extremes[i, 0], value)
            extremes[i, 1] = max(extremes[i, 1], value)
            scaled = value * per_unit - rest
            whole = np.rint(scaled)
            q = np.int64(whole - first)
            part = np.int64(np.rint((scaled - whole) * PARTS))
            square, cross, small = q * q, q * part, part * part
            sums[i, 0] += 1
            sums[i, 1] += q
            sums[i, 2] += square >> 32
            sums[i, 3] += square & 0xFFFFFFFF
            sums[i, 4] += part
            sums[i, 5] += cross >> 32
            sums[i, 6] += cross & 0xFFFFFFFF
            sums[i, 7] += small >> 32
            sums[i, 8] += small & 0xFFFFFFFF


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
    """Sums of one channel in steps of its `Quantum`: each value is q + part / 2**31 of them.

    Sums of products are high * 2**32 + low. `low` and `high` are the extremes: for integers of up
    to 16 bits in steps, else by `ordered`. Where values are whole numbers, all parts are 0.
    """

    count: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    total: NDArray[np.int64]
    square_high: NDArray[np.int64]
    square_low: NDArray[np.int64]
    part: NDArray[np.int64]
    cross_high: NDArray[np.int64]
    cross_low: NDArray[np.int64]
    small_high: NDArray[np.int64]
    small_low: NDArray[np.int64]

    def columns(self) -> NDArray[np.int64]:
        """All of it, shape (n, 11)."""
        return np.stack([getattr(self, name) for name in SUMS], axis=1)


#: Columns of an object's sums, in their order.
SUMS = tuple(field.name for field in fields(Intensity))
#: How they are merged where it is not by adding.
EXTREMES = {"low": np.minimum, "high": np.maximum}


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
    if is_short(values.dtype):
        low, high = np.full(n, LARGEST), np.full(n, SMALLEST)
        total, square = np.zeros(n, np.int64), np.zeros(n, np.int64)
        _whole_numbers(flat_labels, flat_values, int(quantum.offset), low, high, total, square)
        nothing = [np.zeros(n, np.int64)] * 5
        return Intensity(area.copy(), low, high, total, square >> 32, square & 0xFFFFFFFF, *nothing)
    extremes = np.tile([np.inf, -np.inf], (n, 1))
    sums = np.zeros((n, 9), np.int64)
    _steps(flat_labels, flat_values, quantum.offset, 1.0 / quantum.step, extremes, sums)
    low, high = ordered(extremes).T
    return Intensity(sums[:, 0], low, high, *sums.T[1:])
