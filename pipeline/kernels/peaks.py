"""Local maxima inside regions, and their spacing.

A candidate is a pixel that no pixel of its own region overtops inside a box around it. Of the
candidates of a region the highest is kept, then the next one that is far enough from those kept,
and so on. Both steps see one region at a time and break ties by raster index, so the peaks of a
region are the same in every window that holds it whole; the second step also runs on a list that
was gathered from many tiles.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

Ints: TypeAlias = npt.NDArray[np.int32]
Longs: TypeAlias = npt.NDArray[np.int64]
Heights: TypeAlias = npt.NDArray[np.int32] | npt.NDArray[np.float32]

SWEEP_COST = 12  # running maxima visit a pixel of a box about this often an axis, per tested one


def find_peaks(height: Heights, region: Ints, min_distance_px: int) -> Longs:
    """Raster indices of the peaks of every region, ascending.

    Parameters
    ----------
    height : ndarray of shape (Y, X) or (Z, Y, X), int32 or float32
        Without NaN.
    region : ndarray of the same shape, int32
        Region numbers; 0 is outside.
    min_distance_px : int
        Chebyshev distance in px that two peaks of one region exceed.

    Returns
    -------
    ndarray of shape (N,), int64
        At least one for every region: its highest pixel, the first one of equal height.

    See Also
    --------
    candidate_peaks, space_peaks : the two steps, for lists gathered from many tiles.
    """
    found = candidate_peaks(height, region, min_distance_px)
    coords = np.stack(np.unravel_index(found, height.shape), axis=1).astype(np.int64)
    own = region.reshape(-1)[found].astype(np.int64)
    keep = space_peaks(coords, height.reshape(-1)[found], own, found, min_distance_px)
    return found[keep]


def candidate_peaks(height: Heights, region: Ints, min_distance_px: int) -> Longs:
    """Pixels that are the highest of their own region inside the box around them.

    Parameters
    ----------
    height, region, min_distance_px
        As for `find_peaks`. The box has the Chebyshev radius ``max(1, min_distance_px)``.

    Returns
    -------
    ndarray of shape (N,), int64
        Raster indices, ascending. All pixels of a flat top are candidates.

    Raises
    ------
    ValueError
        The shapes or the dtype do not fit, the distance is negative, or a height is NaN.
    """
    _check(height, region, min_distance_px)
    shape = (1,) * (3 - height.ndim) + height.shape
    tops = np.require(height, None, ["C", "W"]).reshape(shape)
    numbers = np.require(region, np.int32, ["C", "W"]).reshape(shape)
    radius = max(1, min_distance_px)
    # A radius of 1 also serves as the sieve: few pixels pass it and need the whole box.
    found: Longs = _highest_of_box_1(tops, numbers)
    if radius == 1 or found.size == 0:
        return found
    keep = np.zeros(found.size, np.bool_)
    order = np.argsort(numbers.reshape(-1)[found], kind="stable")
    ...
    return found[keep]
