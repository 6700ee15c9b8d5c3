"""A sample of pixels that depends on their coordinates alone."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

Longs: TypeAlias = npt.NDArray[np.int64]


def sampled_pixels(first: int, strides: Longs, shape: Longs, share: float) -> Longs:
    """Which pixels of a box are in the sample.

    Parameters
    ----------
    first : int
        Linear index, among all frames, of the box's first pixel.
    strides : ndarray of shape (3,), int64
        Steps of the linear index along Z, Y, X.
    shape : ndarray of shape (3,), int64
        Of the box.
    share : float
        Of all pixels; 1 or more takes them all.

    Returns
    -------
    ndarray of shape (N,), int64
        Raster indices in the box, ascending. A pixel is in the sample if the hash of its linear
        index (splitmix64) is below `share` of its range, wherever tiles begin.

    References
    ----------
    Steele, Lea, Flood, Fast splittable pseudorandom number generators, 2014,
    doi:10.1145/2660193.2660195
    """
    limit = np.uint64(min(int(share * 2.0**64), 2**64 - 1))
    found: Longs = _sample(first, strides, shape, limit, share >= 1)
    return found


@njit(cache=True, nogil=True)
def _sample(first: int, strides: Longs, shape: Longs, limit: np.uint64, everything: bool) -> Longs:
    size = shape[0] * shape[1] * shape[2]
    found = np.empty(size if everything else max(size // 8, 1024), np.int64)
    count = 0
    for z in range(shape[0]):
        for y in range(shape[1]):
            for x in range(shape[2]):
                index = first + z * strides[0] + y * strides[1] + x * strides[2]
                if not everything and hashed(np.uint64(index)) >= limit:
                    continue
                if count == found.size:
                    more = np.empty(2 * count, np.int64)
                    more[:count] = found
                    found = more
                found[count] = (z * shape[1] + y) * shape[2] + x
                count += 1
    return found[:count].copy()


@njit(cache=True, nogil=True, inline="always")
def hashed(value: np.uint64) -> np.uint64:
    """Mix the bits of a number (splitmix64); different numbers stay different."""
    mixed = value + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
