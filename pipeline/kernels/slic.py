"""Superpixels: seeds, the nearest centre of every pixel, and sums over the pixels of a centre.

The distance of pixel i to centre k is, in 32 bits and in this order of operations,

    D2 = (sum of (color_i - color_k)^2, channel by channel) * weight_k
         + (((z_i - z_k) / S)^2 + ((y_i - y_k) / S)^2 + ((x_i - x_k) / S)^2)

where the squared steps of places are found in 64 bits from absolute coordinates and rounded once
(those of z and y together). Nothing in it depends on the window.

References
----------
Achanta et al., SLIC superpixels compared to state-of-the-art superpixel methods, 2012,
doi:10.1109/TPAMI.2012.120
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

Singles: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]
Longs: TypeAlias = NDArray[np.int64]

#: Colours are whole multiples of this step, so that their sums are sums of integers.
COLOR_STEPS = 2**14
#: Largest size of a colour's channel: with the step it fills the 24 bits of a float32.
COLOR_LIMIT = 2.0**10


@njit(cache=True, nogil=True)
def scaled_colors(features: NDArray[Any], low: float, factor: float, out: Singles) -> None:
    """``(feature - low) * factor`` within +-COLOR_LIMIT, rounded to COLOR_STEPS.

    What is no number, as L*a*b* of endless light, becomes 0.

    Parameters
    ----------
    features, out : ndarray of shape (n,)
    """
    shift = low * factor
    for i in range(features.size):
        value = np.float64(features[i]) * factor - shift
        if np.isnan(value):
            value = np.float64(0)
        value = np.float64(min(max(value, -COLOR_LIMIT), COLOR_LIMIT))
        out[i] = np.float32(np.rint(value * COLOR_STEPS) / COLOR_STEPS)


@njit(cache=True, nogil=True)
def move_to_flat_places(features: NDArray[Any], usable: NDArray[np.bool_], seeds: Longs) -> None:
    """Move every seed to the pixel of lowest gradient among it and its neighbours.

    The gradient is the squared difference of the two neighbours along each axis, summed over axes
    and channels; a pixel outside the array is its nearest inside. A seed stays where no gradient is
    lower; of several lowest the first in raster order wins.

    Parameters
    ----------
    features : ndarray of shape (C, Z, Y, X), real
    usable : ndarray of shape (Z, Y, X), bool
        Where a seed may go; it stays where it is if there is no such pixel.
    seeds : ndarray of shape (n, 3), int64
        Changed in place.
    """
    _, planes, rows, columns = features.shape
    for k in range(len(seeds)):
        z0, y0, x0 = seeds[k]
        lowest = _gradient(features, z0, y0, x0) if usable[z0, y0, x0] else np.inf
        for z in range(max(z0 - 1, 0), min(z0 + 2, planes)):
            for y in range(max(y0 - 1, 0), min(y0 + 2, rows)):
                for x in range(max(x0 - 1, 0), min(x0 + 2, columns)):
                    if not usable[z, y, x]:
                        continue
                    steep = _gradient(features, z, y, x)
                    if steep < lowest:
                        lowest = steep
                        seeds[k, 0], seeds[k, 1], seeds[k, 2] = z, y, x


@njit(cache=True, nogil=True)
def _gradient(features: NDArray[Any], z: int, y: int, x: int) -> float:
    _, planes, rows, columns = features.shape
    total = 0.0
    for c in range(len(features)):
        one = features[c]
        dz = np.float64(one[min(z + 1, planes - 1), y, x]) - np.float64(one[max(z - 1, 0), y, x])
        dy = np.float64(one[z, min(y + 1, rows - 1), x]) - np.float64(one[z, max(y - 1, 0), x])
        dx = np.float64(one[z, y, min(x + 1, columns - 1)]) - np.float64(one[z, y, max(x - 1, 0)])
        total += dz * dz + dy * dy + dx * dx
    return total


@njit(cache=True, nogil=True)
def assign_pixels(
    colors: Singles,
    start: Longs,
    places: Doubles,
    centre_colors: Singles,
    weights: Singles,
    per_step: Doubles,
    reach: Doubles,
    nearest: NDArray[np.int32],
    best: Singles,
) -> None:
    """Give every pixel to the nearest of the centres in whose reach it lies.

    Centre after centre takes the pixels of its window that are closer to it than to all before,
    so that ties go to the first. Rows are contiguous, which lets the compiler vectorise.

    Parameters
    ----------
    colors : ndarray of shape (C, Z, Y, X), float32
    start : ndarray of shape (3,), int64
        Absolute coordinates of the first pixel.
    places : ndarray of shape (K, 3), float64
        Absolute.
    centre_colors : ndarray of shape (K, C), float32
    weights : ndarray of shape (K,), float32
    per_step : ndarray of shape (3,), float64
        1 / S on each axis.
    reach : ndarray of shape (3,), float64
        Half sides of a window in px: pixels at this distance are in it.
    nearest : ndarray of shape (Z, Y, X), int32
        Place in the list of centres, of the closest so far; changed in place.
    best : ndarray of shape (Z, Y, X), float32
        Its D2; changed in place.
    """
    channels, planes, rows, columns = colors.shape
    row = np.empty(columns, np.float32)
    apart = np.empty(columns, np.float32)
    for k in range(len(places)):
        z0, z1 = _span(places[k, 0], reach[0], start[0], planes)
        y0, y1 = _span(places[k, 1], reach[1], start[1], rows)
        x0, x1 = _span(places[k, 2], reach[2], start[2], columns)
        if z0 >= z1 or y0 >= y1 or x0 >= x1:
            continue
        width = x1 - x0
        for i in range(width):
            dx = (start[2] + x0 + i - places[k, 2]) * per_step[2]
            row[i] = np.float32(dx * dx)
        weight = weights[k]
        number = np.int32(k)
        for z in range(z0, z1):
            dz = (start[0] + z - places[k, 0]) * per_step[0]
            for y in range(y0, y1):
                dy = (start[1] + y - places[k, 1]) * per_step[1]
                across = np.float32(dz * dz + dy * dy)
                values = colors[0, z, y, x0:x1]
                center = centre_colors[k, 0]
                for i in range(width):
                    d = values[i] - center
                    apart[i] = d * d
                for c in range(1, channels):
                    values = colors[c, z, y, x0:x1]
                    center = centre_colors[k, c]
                    for i in range(width):
                        d = values[i] - center
                        apart[i] += d * d
                lowest = best[z, y, x0:x1]
                owner = nearest[z, y, x0:x1]
                for i in range(width):
                    d2 = apart[i] * weight + (across + row[i])
                    closer = d2 < lowest[i]
                    lowest[i] = d2 if closer else lowest[i]
                    owner[i] = number if closer else owner[i]


@njit(cache=True, nogil=True)
def _span(place: float, reach: float, start: int, size: int) -> tuple[int, int]:
    """First and last + 1 pixel of a window on one axis, within 0..size."""
    first = math.ceil(place - reach) - start
    last = math.floor(place + reach) - start
    return max(first, 0), min(last + 1, size)


@njit(cache=True, nogil=True)
def add_up(
    colors: Singles,
    start: Longs,
    nearest: NDArray[np.int32],
    best: Singles,
    centre_colors: Singles,
    sums: Longs,
    widest: Singles,
) -> None:
    """Sum places and colours over the pixels of each centre.

    Parameters
    ----------
    colors, start, nearest, best, centre_colors
        As for `assign_pixels`; `nearest` -1 is a pixel that counts nowhere.
    sums : ndarray of shape (K, 4 + C), int64
        Count, absolute z, y, x, colours in COLOR_STEPS; added to.
    widest : ndarray of shape (K,), float32
        Largest squared distance of colours within the reach of a centre; raised.
    """
    channels, planes, rows, columns = colors.shape
    for z in range(planes):
        for y in range(rows):
            for x in range(columns):
                k = nearest[z, y, x]
                if k < 0:
                    continue
                sums[k, 0] += 1
                sums[k, 1] += start[0] + z
                sums[k, 2] += start[1] + y
                sums[k, 3] += start[2] + x
                apart = np.float32(0)
                for c in range(channels):
                    value = colors[c, z, y, x]
                    sums[k, 4 + c] += np.int64(value * np.float32(COLOR_STEPS))
                    d = value - centre_colors[k, c]
                    apart += d * d
                if apart > widest[k] and best[z, y, x] < np.inf:
                    widest[k] = apart
