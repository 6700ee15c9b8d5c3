"""Masks of objects at their own size: small maps of probabilities, made as large as their boxes."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def resized_bits(
    soft: NDArray[np.float32],
    shape: NDArray[np.int64],
    inner_start: NDArray[np.int64],
    inner_shape: NDArray[np.int64],
    offsets: NDArray[np.int64],
    threshold: float,
) -> NDArray[np.uint8]:
    """Resize maps bilinearly, compare them, and pack a part of each, a bit a pixel.

    As torch's `interpolate(mode="bilinear", align_corners=False)` in float32.

    Parameters
    ----------
    soft : ndarray of shape (n, M, M), float32
    shape : ndarray of shape (n, 2), int64
        Size that each is resized to.
    inner_start, inner_shape : ndarray of shape (n, 2), int64
        The part of it that is wanted.
    offsets : ndarray of shape (n + 1,), int64
        First byte of each in the result, see `Masks`.
    threshold : float
        Larger values are set.

    Returns
    -------
    ndarray of shape (offsets[-1],), uint8
        Each mask raster by raster, its first pixel in the highest bit, as `numpy.packbits`.
    """
    bits = np.zeros(offsets[-1], np.uint8)
    side = soft.shape[1]
    limit = np.float32(threshold)
    for k in range(len(soft)):
        rows, columns = inner_shape[k]
        low, high, far = _taps(shape[k, 1], inner_start[k, 1], columns, side)
        lows, highs, fars = _taps(shape[k, 0], inner_start[k, 0], rows, side)
        place = 8 * offsets[k]
        for y in range(rows):
            upper, lower = soft[k, lows[y]], soft[k, highs[y]]
            for x in range(columns):
                near = np.float32(1) - far[x]
                above = near * upper[low[x]] + far[x] * upper[high[x]]
                below = near * lower[low[x]] + far[x] * lower[high[x]]
                if (np.float32(1) - fars[y]) * above + fars[y] * below > limit:
                    bits[place >> 3] |= np.uint8(128 >> (place & 7))
                place += 1
    return bits


@njit(cache=True, nogil=True)
def _taps(
    size: int, start: int, count: int, side: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """The two values that each place reads, and the weight of the second."""
    low, high = np.empty(count, np.int64), np.empty(count, np.int64)
    weight = np.empty(count, np.float32)
    scale = np.float32(side) / np.float32(size)
    half = np.float32(0.5)
    for i in range(count):
        at = max(scale * (np.float32(start + i) + half) - half, np.float32(0))
        low[i] = min(int(at), side - 1)
        high[i] = min(low[i] + 1, side - 1)
        weight[i] = at - np.float32(low[i])
    return low, high, weight
