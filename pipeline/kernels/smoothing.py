"""Gaussian smoothing inside regions, in integers.

A pixel takes weight from pixels of its own region only, so regions do not see each other and the
result of one does not depend on what else the window holds. Weights are integers, sums are exact
and every pass rounds once, so the order of summation does not matter either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

Ints: TypeAlias = npt.NDArray[np.int32]
Longs: TypeAlias = npt.NDArray[np.int64]

WEIGHT_BITS = 12  # the weights of one axis sum to 2 ** 12
TRUNCATE = 3.0  # radius of the kernel in sigmas


#: Weights of no smoothing.
ONE_WEIGHT = np.array([1 << WEIGHT_BITS], np.int64)


def radius_px(sigma_px: float) -> int:
    """Reach of the kernel in px: ``int(3 * sigma + 0.5)``."""
    return int(TRUNCATE * sigma_px + 0.5)


def gaussian_weights(sigma_px: float) -> Longs:
    """Sampled gaussian as integers that sum to ``2 ** WEIGHT_BITS``.

    Parameters
    ----------
    sigma_px : float
        Standard deviation in px, more than 0.

    Returns
    -------
    ndarray of shape (2 * radius + 1,), int64
        Symmetric. What rounding leaves over goes to the centre; if
        that would change the centre by more than 10 %, the pairs share it by largest remainder.

    Raises
    ------
    ValueError
        The centre has a weight of less than 10: sigma is more than about 160 px.
    """
    radius = radius_px(sigma_px)
    half = [math.exp(-0.5 * (k / sigma_px) ** 2) for k in range(radius + 1)]
    scale = (1 << WEIGHT_BITS) / (half[0] + 2.0 * sum(half[1:]))
    side = [math.floor(w * scale + 0.5) for w in half[1:]]
    centre = (1 << WEIGHT_BITS) - 2 * sum(side)
    if scale < 10:
        raise ValueError(
            f"sigma_px is {sigma_px}; weights of {WEIGHT_BITS} bits are too coarse: reduce it"
        )
    if abs(centre - scale) > 0.1 * scale:
        centre = 2 * math.ceil(scale / 2)
        side = _apportion([w * scale for w in half[1:]], (1 << WEIGHT_BITS) // 2 - centre // 2)
    return np.array([*reversed(side), centre, *side], np.int64)


def _apportion(shares: list[float], total: int) -> list[int]:
    """Round shares to integers of a given sum: up where the remainder is largest."""
    whole = [math.floor(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda k: (whole[k] - shares[k], k))
    for k in by_remainder[: total - sum(whole)]:
        whole[k] += 1
    return whole


def smooth_within(values: Ints, region: Ints, sigma_px: float | Sequence[float]) -> Ints:
    """Smooth `values`, in place, with a separable gaussian that stays inside each region.

    Parameters
    ----------
    values : ndarray of shape (Y, X) or (Z, Y, X), int32, C-contiguous
        Overwritten: a window is large, and two more copies of it were the peak of a tile's memory.
    region : ndarray of the same shape, int32
        Region numbers; 0 is outside.
    sigma_px : float or sequence of float
        Standard deviation in px, the same on every axis or one an axis. Along an axis with 0
        nothing changes.

    Returns
    -------
    ndarray of the same shape, int32
        `values`; 0 outside the regions. Each pass along an axis adds the pixels of the same region
        within ``int(3 * sigma + 0.5)`` px, counts all others as 0 (there is no normalisation at
        the edge of a region), and rounds half up.

    Raises
    ------
    ValueError
        The shapes differ, `values` cannot be overwritten, or sigma is negative, not finite, or too
        wide for the weights.
    """
    if values.shape != region.shape or values.ndim not in (2, 3):
        raise ValueError(f"values {values.shape} and region {region.shape} must be one 2D/3D shape")
    if values.dtype != np.int32 or not (values.flags.c_contiguous and values.flags.writeable):
        raise ValueError("values must be a writeable C-contiguous int32 array")
    sigmas = sigma_px if isinstance(sigma_px, Sequence) else (sigma_px,) * values.ndim
    if len(sigmas) != values.ndim or not all(math.isfinite(s) and s >= 0 for s in sigmas):
        raise ValueError(f"sigma_px is {sigma_px}; it must be 0 or more")
    if max(sigmas) == 0 or values.size == 0:
        return values
    numbers = np.require(region, np.int32, ["C", "W"]).reshape(-1)
    for axis, length in enumerate(values.shape):
        # One weight of 1 sets what is outside to 0, as every pass does.
        weights = gaussian_weights(sigmas[axis]) if sigmas[axis] else ONE_WEIGHT
        stride = math.prod(values.shape[axis + 1 :])
        along_row = axis == values.ndim - 1
        _smooth_axis(
            values.reshape(-1), numbers, weights, values.shape[-1], length, stride, along_row
        )
    return values


@njit(cache=True, nogil=True)
def _smooth_axis(
    values: Ints,
    region: Ints,
    weights: Longs,
    width: int,
    length: int,
    stride: int,
    along_row: bool,
) -> None:
    """One pass over the flattened window, along the axis of `length` px that are `stride` apart.

    One run of foreground of a row of `width` px is summed at a time, weight by weight, so that
    the inner loop is contiguous on every axis. What a row held before it was overwritten stays in
    `before` for as long as rows that follow need it.
    """
    radius = weights.size // 2
    span = width if along_row else stride
    kept = 1 if along_row else min(radius, length - 1) + 1
    before = np.empty(kept * span, np.int32)
    total = np.empty(width, np.int64)
    for row in range(0, values.size, width):
        place = 0 if along_row else (row // stride) % length
        inner = 0 if along_row else row % stride
        end = row + width
        own = (place % kept) * span + inner
        before[own : own + width] = values[row:end]
        first = row
        while first < end:
            if region[first] == 0:
                values[first] = 0
                first += 1
                continue
            stop = first + 1
            while stop < end and region[stop] != 0:
                stop += 1
            total[: stop - first] = 0
            for k in range(-radius, radius + 1):
                weight = weights[k + radius]
                if along_row:
                    a, b = max(first, row - k), min(stop, end - k)
                    _add_weighted(total, before, k - row, region, k, first, a, b, weight)
                elif place + k >= length or place + k < 0:
                    continue
                elif k > 0:
                    shift = k * stride
                    _add_weighted(total, values, shift, region, shift, first, first, stop, weight)
                else:
                    there = ((place + k) % kept) * span + inner - row
                    shift = k * stride
                    _add_weighted(total, before, there, region, shift, first, first, stop, weight)
            for i in range(stop - first):
                # One half goes up, for negative sums too: the shift rounds down.
                values[first + i] = (total[i] + (1 << (WEIGHT_BITS - 1))) >> WEIGHT_BITS
            if stop < end:
                values[stop] = 0
            first = stop + 1


@njit(cache=True, nogil=True, inline="always")
def _add_weighted(
    total: Longs,
    source: Ints,
    there: int,
    region: Ints,
    shift: int,
    first: int,
    a: int,
    b: int,
    weight: int,
) -> None:
    """Add ``weight * source[i + there]`` to ``total[i - first]`` for a <= i < b.

    Only where the pixel `shift` away is of the same region.
    """
    # Unsigned indices spare the test for negative ones, and a product with 0 spares the branch:
    # together they turn the loop into vector instructions (5 times faster).
    own, other, value, place = np.uintp(a), np.uintp(a + shift), np.uintp(a + there), a - first
    for j in range(np.uintp(max(b - a, 0))):
        same = region[other + j] == region[own + j]
        total[np.uintp(place) + j] += weight * np.int64(source[value + j] if same else np.int32(0))
