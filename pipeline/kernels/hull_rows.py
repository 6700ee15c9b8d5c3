"""Voxels in a convex body given by planes, as rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Longs = NDArray[np.int64]


def hull_rows(equations: Floats, last: NDArray[Any], tolerance: float) -> Longs:
    """First and last voxel of every row that has any.

    Parameters
    ----------
    equations : ndarray of shape (m, 4), float64
        Of planes: normal (z, y, x) and offset; inside, normal * place + offset <= 0.
    last : ndarray of shape (3,), int
        Rows from 0 to these z and y are looked at, and their voxels to this x.
    tolerance : float
        By how much a voxel may lie outside.

    Returns
    -------
    ndarray of shape (n, 4), int64
        z, y, first x, last x.
    """
    found = np.empty(((last[0] + 1) * (last[1] + 1), 4), np.int64)
    n = _hull_rows(np.ascontiguousarray(equations), last[0], last[1], last[2], tolerance, found)
    return found[:n]


@njit(cache=True, nogil=True)
def _is_inside(equations: Floats, z: int, y: int, x: int, tolerance: float) -> bool:
    for k in range(len(equations)):
        e = equations[k]
        if e[0] * z + e[1] * y + e[2] * x + e[3] >= tolerance:
            return False
    return True


@njit(cache=True, nogil=True)
def _hull_rows(
    equations: Floats, last_z: int, last_y: int, last_x: int, tolerance: float, found: Longs
) -> int:
    n = 0
    for z in range(last_z + 1):
        for y in range(last_y + 1):
            low, high = 0.0, float(last_x)
            for k in range(len(equations)):
                e = equations[k]
                rest = e[0] * z + e[1] * y + e[3]
                if e[2] > 1e-9:
                    high = min(high, -rest / e[2])
                elif e[2] < -1e-9:
                    low = max(low, -rest / e[2])
            # What division rounds is decided by the planes themselves.
            a, b = int(np.floor(low)) - 1, int(np.ceil(high)) + 1
            a, b = max(a, 0), min(b, last_x)
            while a <= b and not _is_inside(equations, z, y, a, tolerance):
                a += 1
            while b >= a and not _is_inside(equations, z, y, b, tolerance):
                b -= 1
            if a <= b:
                found[n, 0], found[n, 1], found[n, 2], found[n, 3] = z, y, a, b
                n += 1
    return n
