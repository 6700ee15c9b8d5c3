"""Sums of values times places, in whole numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Longs = NDArray[np.int64]


def weighted_sums(
    labels: NDArray[np.uint32],
    values: NDArray[Any],
    count: int,
    offset: float,
    step: float,
    origin: Longs,
) -> dict[str, Longs]:
    """Sums over each label of q = (value - offset) / step, and of q times the place.

    Parameters
    ----------
    labels : ndarray of shape (Z, Y, X), uint32
        1..`count`; 0 is background.
    values : ndarray of the same shape, real
        Those that are not finite are left out.
    offset, step : float
        Of the values' `Quantum`, by which q is a whole number below 2**31.
    origin : ndarray of shape (3,), int64
        Place of the first pixel.

    Returns
    -------
    dict of ndarray
        count, total (`count`,): pixels, and sum of q; sums (`count`, 3): of places; high, low
        (`count`, 3): the sum of q times the place is high * 2**32 + low.
    """
    total = np.zeros((count, 2), np.int64)
    sums = np.zeros((count, 3), np.int64)
    parts = np.zeros((count, 3, 2), np.int64)
    _weighted_sums(labels, values, offset, 1.0 / step, origin, total, sums, parts)
    # A part counts q's upper or lower 16 bits, so no sum of a tile leaves 64 bits.
    upper, lower = parts[:, :, 0], parts[:, :, 1]
    high = (upper >> 16) + (lower >> 32)
    low = ((upper & 0xFFFF) << 16) + (lower & 0xFFFFFFFF)
    return {"count": total[:, 0], "total": total[:, 1], "sums": sums, "high": high, "low": low}


@njit(cache=True, nogil=True)
def _weighted_sums(
    labels: NDArray[np.uint32],
    values: NDArray[Any],
    offset: float,
    per_unit: float,
    origin: Longs,
    total: Longs,
    sums: Longs,
    parts: NDArray[np.int64],
) -> None:
    base = offset * per_unit
    planes, rows, columns = labels.shape
    place = np.empty(3, np.int64)
    for z in range(planes):
        for y in range(rows):
            for x in range(columns):
                own = labels[z, y, x]
                if own == 0:
                    continue
                value = np.float64(values[z, y, x])
                if not np.isfinite(value):
                    continue
                i = own - 1
                q = np.int64(np.rint(value * per_unit - base))
                total[i, 0] += 1
                total[i, 1] += q
                place[0], place[1], place[2] = z + origin[0], y + origin[1], x + origin[2]
                for k in range(3):
                    sums[i, k] += place[k]
                    parts[i, k, 0] += (q >> 16) * place[k]
                    parts[i, k, 1] += (q & 0xFFFF) * place[k]
