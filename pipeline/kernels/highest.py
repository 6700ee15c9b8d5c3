"""The highest pixel of every region within each of many boxes."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

Doubles: TypeAlias = NDArray[np.float64]
Longs: TypeAlias = NDArray[np.int64]


@njit(cache=True, nogil=True)
def highest_in_boxes(
    height: NDArray[Any],
    region: NDArray[np.int32],
    apart_z: Doubles,
    apart_y: Doubles,
    apart_x: Doubles,
    spans_z: Longs,
    spans_y: Longs,
    spans_x: Longs,
    most_region: int,
) -> Longs:
    """The highest pixel of every region in every box.

    Of several the one that lies closest, then the first in raster order.

    Parameters
    ----------
    height : ndarray of shape (Z, Y, X), int32 or float32
        Without NaN.
    region : ndarray of shape (Z, Y, X), int32
        0 is none.
    apart_z, apart_y, apart_x : ndarray of shape (Z,), (Y,), (X,), float64
        Sum up to how far away a pixel is.
    spans_z, spans_y, spans_x : ndarray of shape (n, 2), int64
        First and last + 1 pixel of boxes along each axis: a box for each triple of spans.
    most_region : int
        Largest number of a region.

    Returns
    -------
    ndarray of shape (m,), int64
        Raster indices, box by box.
    """
    _, rows, columns = height.shape
    flat = height.reshape(-1)
    found = np.empty(16, np.int64)
    place = np.full(most_region + 1, -1, np.int64)  # in `found`, of the last box with the region
    count = 0
    for z0, z1 in spans_z:
        for y0, y1 in spans_y:
            for x0, x1 in spans_x:
                first = count
                for z in range(z0, z1):
                    for y in range(y0, y1):
                        row = (z * rows + y) * columns
                        across = apart_z[z] + apart_y[y]
                        for x in range(x0, x1):
                            number = region[z, y, x]
                            if number == 0:
                                continue
                            k = place[number]
                            if k < first:
                                if count == found.size:
                                    found = _doubled(found)
                                place[number] = count
                                found[count] = row + x
                                count += 1
                                continue
                            high, best = flat[row + x], flat[found[k]]
                            if high < best:
                                continue
                            if high == best:
                                above, bx = divmod(found[k], columns)
                                bz, by = divmod(above, rows)
                                if across + apart_x[x] >= apart_z[bz] + apart_y[by] + apart_x[bx]:
                                    continue
                            found[k] = row + x
    return found[:count]


@njit(cache=True, nogil=True)
def _doubled(found: Longs) -> Longs:
    larger = np.empty(2 * found.size, np.int64)
    larger[: found.size] = found
    return larger
