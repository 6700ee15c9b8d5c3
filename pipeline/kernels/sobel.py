"""Squares of the Sobel slopes of an image, added up over axes and channels in one pass."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[Any]
Floats: TypeAlias = NDArray[np.float64]


def add_squared_slopes(image: Pixels, out: Floats) -> None:
    """Add the squared Sobel slopes along every axis.

    Parameters
    ----------
    image : ndarray of shape (Y, X) or (Z, Y, X), real
        Outside, the nearest pixel is repeated.
    out : ndarray of the same shape, float64
        Slopes of neighbours' differences weighed 1, 2, 1 across, an axis.
    """
    pixels = np.require(image, None, ["C", "W"])
    if image.ndim == 2:
        _add_in_plane(pixels, out)
    else:
        _add_in_volume(pixels, out)


@njit(cache=True, nogil=True)
def _smooth(a: float, b: float, c: float) -> float:
    return 2.0 * b + (a + c)


@njit(cache=True, nogil=True)
def _squares(above: Pixels, row: Pixels, below: Pixels, left: int, x: int, right: int) -> float:
    """Squared slopes along y and x at one pixel of a plane."""
    a, b, c = np.float64(above[left]), np.float64(above[x]), np.float64(above[right])
    d, e = np.float64(row[left]), np.float64(row[right])
    f, g, h = np.float64(below[left]), np.float64(below[x]), np.float64(below[right])
    along_y = _smooth(f - a, g - b, h - c)
    along_x = _smooth(c - a, e - d, h - f)
    return float(along_y * along_y + along_x * along_x)


@njit(cache=True, nogil=True)
def _add_in_plane(image: Pixels, out: Floats) -> None:
    rows, columns = image.shape
    for y in range(rows):
        above, row, below = image[max(y - 1, 0)], image[y], image[min(y + 1, rows - 1)]
        to = out[y]
        to[0] += _squares(above, row, below, 0, 0, min(1, columns - 1))
        # Without a test of the columns, so that several pixels are computed at once.
        for x in range(1, columns - 1):
            to[x] += _squares(above, row, below, x - 1, x, x + 1)
        if columns > 1:
            last = columns - 1
            to[last] += _squares(above, row, below, last - 1, last, last)


@njit(cache=True, nogil=True)
def _of_plane(
    above: Pixels, row: Pixels, below: Pixels, left: int, x: int, right: int
) -> tuple[float, float, float]:
    """At a pixel of a plane: the values smoothed across, the slopes along y and x."""
    a, b, c = np.float64(above[left]), np.float64(above[x]), np.float64(above[right])
    d, e, f = np.float64(row[left]), np.float64(row[x]), np.float64(row[right])
    g, h, i = np.float64(below[left]), np.float64(below[x]), np.float64(below[right])
    high, middle, low = _smooth(a, b, c), _smooth(d, e, f), _smooth(g, h, i)
    return _smooth(high, middle, low), low - high, _smooth(c - a, f - d, i - g)


@njit(cache=True, nogil=True)
def _add_in_volume(image: Pixels, out: Floats) -> None:
    planes, rows, columns = image.shape
    for z in range(planes):
        before, plane, after = image[max(z - 1, 0)], image[z], image[min(z + 1, planes - 1)]
        for y in range(rows):
            up, down = max(y - 1, 0), min(y + 1, rows - 1)
            for x in range(columns):
                left, right = max(x - 1, 0), min(x + 1, columns - 1)
                flat_0, y_0, x_0 = _of_plane(before[up], before[y], before[down], left, x, right)
                _, y_1, x_1 = _of_plane(plane[up], plane[y], plane[down], left, x, right)
                flat_2, y_2, x_2 = _of_plane(after[up], after[y], after[down], left, x, right)
                along_z, along_y = flat_2 - flat_0, _smooth(y_0, y_1, y_2)
                along_x = _smooth(x_0, x_1, x_2)
                out[z, y, x] += along_z * along_z + along_y * along_y + along_x * along_x
