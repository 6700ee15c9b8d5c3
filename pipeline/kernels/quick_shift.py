"""Quick shift of one window: the density at every pixel, and the way up from it.

All sums are taken in an order that depends on places in the frame only, and the exponential is made
of multiplications and additions, so that a pixel has the same bits in every window and on every
machine.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.kernels.sampling import hashed

Floats: TypeAlias = NDArray[np.float64]
Longs: TypeAlias = NDArray[np.int64]

#: Taylor's series of exp to the 13th power: 17 digits for at most half of log(2).
_SERIES = np.array([1 / math.factorial(k) for k in range(13, -1, -1)])
_PER_LOG2 = 1 / math.log(2)
#: log(2) in two parts; products of the first with whole numbers below 2**20 are exact.
_LOG2_HIGH = 0.693147180369123816490
_LOG2_LOW = 1.90821492927058770002e-10
#: Added to a small number, it leaves the nearest whole one, plus the bias of exponents, in the
#: last bits of a float64.
_ROUND = 1.5 * 2.0**52 + 1023
#: Below, the exponential adds nothing to the density of 1 that a pixel has by itself.
_LOWEST = -700.0


def densities(colors: Floats, kernel_size: float, radius: int) -> Floats:
    """Density of pixels in place and colour.

    Parameters
    ----------
    colors : ndarray of shape (C, Y, X), float64
        NaN where there is no value.
    kernel_size : float
        Standard deviation of the gaussian, in px and units of colour.
    radius : int
        Half the side of the square of pixels that count.

    Returns
    -------
    ndarray of shape (Y, X), float64
        Right where the square lies in `colors` or ends with the frame.
    """
    density = np.ones(colors.shape[1:])
    _add_pairs(np.ascontiguousarray(colors), -0.5 / kernel_size**2, radius, density)
    return density


@njit(cache=True, nogil=True)
def _add_pairs(colors: Floats, factor: float, radius: int, density: Floats) -> None:
    """Add the weight of every pair to both of its pixels.

    A pixel takes pairs by their step; of two of the same step that first which it comes last in.
    """
    height, width = density.shape
    square, rounded = np.empty(width), np.empty(width)
    bits = rounded.view(np.int64)
    for dy in range(radius + 1):
        for dx in range(-radius if dy else 1, radius + 1):
            x0, x1 = max(0, -dx), min(width, width - dx)
            place = np.float64(dy * dy + dx * dx)
            n = x1 - x0
            if n <= 0:
                continue
            for y in range(height - dy):
                square[:n] = place
                for c in range(len(colors)):
                    own = colors[c, y, x0:x1]
                    other = colors[c, y + dy, x0 + dx : x1 + dx]
                    for i in range(n):
                        apart = own[i] - other[i]
                        square[i] += apart * apart
                _exponentials(square[:n], factor, rounded, bits)
                own, other = density[y, x0:x1], density[y + dy, x0 + dx : x1 + dx]
                for i in range(n):
                    other[i] += square[i]
                for i in range(n):
                    own[i] += square[i]


@njit(cache=True, nogil=True)
def _exponentials(values: Floats, factor: float, rounded: Floats, bits: Longs) -> None:
    """Replace values by exp(factor * value), where that is not too small; NaN by next to 0."""
    n = len(values)
    for i in range(n):
        power = values[i] * factor
        power = power if power > _LOWEST else _LOWEST
        rounded[i] = power * _PER_LOG2 + _ROUND
        whole = rounded[i] - _ROUND
        rest = (power - whole * _LOG2_HIGH) - whole * _LOG2_LOW
        total = _SERIES[0]
        for k in range(1, 14):
            total = total * rest + _SERIES[k]
        values[i] = total
    for i in range(n):
        bits[i] <<= 52
    for i in range(n):
        values[i] *= rounded[i]


def steps_by_distance(radius: int, max_dist: float) -> Longs:
    """Steps of at most `max_dist` px, `radius` on each axis: (square, dy, dx), nearest first."""
    reach = range(-radius, radius + 1)
    steps = [(dy * dy + dx * dx, dy, dx) for dy in reach for dx in reach if dy or dx]
    found = sorted(step for step in steps if step[0] <= max_dist**2)
    return np.array(found, np.int64).reshape(-1, 3)


def climb(
    colors: Floats,
    density: Floats,
    core: tuple[slice, ...],
    first: int,
    row: int,
    steps: Longs,
    max_dist: float,
) -> tuple[NDArray[np.uint32], Longs]:
    """Follow every pixel of a core to its root, or to where the way leaves the core.

    The next pixel on the way is the nearest in place and colour, among those of a higher density,
    at most `max_dist` away; of several that in the earliest row, then column. Of equal densities
    the one with the larger hash of its place is the higher. A root has none.

    Parameters
    ----------
    colors : ndarray of shape (C, Y, X), float64
        NaN where there is no value.
    density : ndarray of shape (Y, X), float64
    core : tuple of slice
        The core, in `colors`.
    first : int
        Linear index, among all frames, of the first pixel of `colors`.
    row : int
        Linear indices between two rows.
    steps : ndarray of shape (n, 3), int64
        See `steps_by_distance`.
    max_dist : float

    Returns
    -------
    labels : ndarray of shape (\\*core), uint32
        Pixels whose ways end in one place have one number, 1..n; 0 where there is no value.
    ends : ndarray of shape (n,), int64
        Raster indices, in `colors`, of these places.
    """
    box = np.array([(s.start, s.stop) for s in core], np.int64)
    parent = np.full(density.size, -1, np.int64)
    _find_parents(colors, density, box, first, row, steps, max_dist**2, parent)
    number = np.zeros(density.size, np.uint32)
    labels = np.zeros(box[:, 1] - box[:, 0], np.uint32)
    ends = np.empty(labels.size, np.int64)
    count = _follow(parent, box, density.shape[1], number, labels, ends)
    return labels, ends[:count]


@njit(cache=True, nogil=True)
def _find_parents(
    colors: Floats,
    density: Floats,
    box: Longs,
    first: int,
    row: int,
    steps: Longs,
    limit: float,
    parent: Longs,
) -> None:
    """Raster index of the next pixel on the way, the pixel's own for a root; others keep -1."""
    height, width = density.shape
    for y in range(box[0, 0], box[0, 1]):
        for x in range(box[1, 0], box[1, 1]):
            if np.isnan(colors[0, y, x]):
                continue
            place = first + y * row + x
            best, found = limit, y * width + x
            for s in range(len(steps)):
                if steps[s, 0] > best:
                    break
                k, h = y + steps[s, 1], x + steps[s, 2]
                if not (0 <= k < height and 0 <= h < width) or density[k, h] < density[y, x]:
                    continue
                if density[k, h] == density[y, x]:
                    there = np.uint64(first + k * row + h)
                    if hashed(there) < hashed(np.uint64(place)):
                        continue
                total = np.float64(steps[s, 0])
                for c in range(len(colors)):
                    apart = colors[c, y, x] - colors[c, k, h]
                    total += apart * apart
                other = k * width + h
                earlier = found == y * width + x or other < found
                if total < best or (total == best and earlier):
                    best, found = total, other
            parent[y * width + x] = found


@njit(cache=True, nogil=True)
def _follow(
    parent: Longs,
    box: Longs,
    width: int,
    number: NDArray[np.uint32],
    labels: NDArray[np.uint32],
    ends: Longs,
) -> int:
    """Number the ends of all ways, and shorten the ways; returns how many ends there are."""
    (y0, y1), (x0, x1) = box
    count = 0
    for y in range(y0, y1):
        for x in range(x0, x1):
            i = y * width + x
            if parent[i] < 0:
                continue
            end = i
            # Pixels outside the core have no parent here.
            while parent[end] >= 0 and parent[end] != end:
                end = parent[end]
            while i != end:
                i, parent[i] = parent[i], end
            if number[end] == 0:
                ends[count] = end
                count += 1
                number[end] = count
            labels[y - y0, x - x0] = number[end]
    return count
