"""Exact squared Euclidean distance in integers, capped, for masks.

1. `_scan_first_axis`: distance to the background along axis 0, by two sweeps of whole rows.
2. `_lower_envelope_axis`: for every further axis, the lower envelope of the parabolas that the
   earlier axes left on each run of foreground. A run is bounded by background pixels of height
   0, so nothing behind them can be nearer: each run is solved alone.

All arithmetic is integer, so a value depends on the mask alone, never on where the window lies.

References
----------
.. [1] Meijster, Roerdink, Hesselink, "A general algorithm for computing distance transforms in
   linear time", Mathematical Morphology and its Applications to Image and Signal Processing
   18:331-340 (2000). DOI:10.1007/0-306-47025-X_36
.. [2] Felzenszwalb, Huttenlocher, "Distance transforms of sampled functions", Theory of
   Computing 8:415-428 (2012). DOI:10.4086/toc.2012.v008a019
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int32]
Longs: TypeAlias = npt.NDArray[np.int64]

MAX_LIMIT_PX = 46340  # its square is the largest one that int32 holds
#: Parts of a px squared that squares of a voxel's sides are rounded to; squares of whole numbers,
#: so that roots have whole steps. The finest is taken with which the largest distance fits int32.
PARTS = (4096, 1024, 256, 64, 16, 4, 1)


@dataclass(frozen=True, slots=True)
class Metric:
    """How long a step along each axis is, in whole numbers.

    Parameters
    ----------
    weights : tuple of int
        Square of the step along each axis, in `parts` of a px squared.
    parts : int
        1 where all steps are alike.
    """

    weights: tuple[int, ...]
    parts: int = 1


def metric_of(spacing: Sequence[float], limit_px: int) -> Metric:
    """The metric of voxels with these sides; a px is the shortest side.

    Squares of sides are rounded to 1/4096 px squared, half up; coarser where `limit_px` is more
    than 724 (1/1024) or 1448 (1/256).
    """
    shortest = min(spacing)
    squares = [(side / shortest) ** 2 for side in spacing]
    if max(squares) == 1.0:
        return Metric((1,) * len(squares))
    parts = next(p for p in PARTS if limit_px * limit_px * p <= np.iinfo(np.int32).max)
    return Metric(tuple(math.floor(square * parts + 0.5) for square in squares), parts)


def squared_distance(
    mask: npt.NDArray[np.bool_] | Bytes, limit_px: int, metric: Metric | None = None
) -> Ints:
    """Squared distance of every mask pixel to the nearest pixel outside the mask.

    Parameters
    ----------
    mask : ndarray of shape (Y, X) or (Z, Y, X), bool or uint8
        Anything but 0 is inside.
    limit_px : int
        Distances saturate here, in px; 1 to 46340.
    metric : Metric, optional
        Lengths of steps; by default 1 px along every axis.

    Returns
    -------
    ndarray of the same shape, int32
        px squared, in the metric's parts: 0 outside the mask, at most ``limit_px ** 2`` px squared
        inside. The border of the array is not background, so a mask without any background is
        saturated everywhere.

    Raises
    ------
    ValueError
        `limit_px`, the number of axes, or a square in parts is out of range.

    Notes
    -----
    Linear time by lower envelopes [1]_ [2]_.
    """
    if not 1 <= limit_px <= MAX_LIMIT_PX:
        raise ValueError(f"limit_px is {limit_px}; it must be 1 to {MAX_LIMIT_PX}")
    if mask.ndim not in (2, 3):
        raise ValueError(f"mask has {mask.ndim} axes; 2 or 3 are supported")
    if mask.size == 0:
        return np.zeros(mask.shape, np.int32)
    # A read-only array would be a second signature to compile, hence "W".
    inside = np.require(mask != 0, np.bool_, ["C", "W"]).view(np.uint8)
    metric = metric or Metric((1,) * mask.ndim)
    cap = limit_px * limit_px * metric.parts
    if len(metric.weights) != mask.ndim or cap > np.iinfo(np.int32).max:
        raise ValueError(f"{metric} does not fit {mask.ndim} axes and {limit_px} px")
    squared = _along_first_axis(inside.reshape(mask.shape[0], -1), cap, metric.weights[0])
    for axis in range(1, mask.ndim):
        before, after = math.prod(mask.shape[:axis]), math.prod(mask.shape[axis + 1 :])
        lines = squared.reshape(before, mask.shape[axis], after)
        _lower_envelope_axis(lines, cap, metric.weights[axis])
    return squared.reshape(mask.shape)


def _along_first_axis(inside: Bytes, cap: int, weight: int) -> Ints:
    """Squared distance along axis 0 only, at most `cap`."""
    # As many steps as saturate, and no more: their square must fit int32.
    steps = math.isqrt((cap - 1) // weight) + 1
    squared: Ints = _scan_first_axis(inside, np.int32(steps))
    if weight > 1 or steps * steps > cap:
        np.minimum(squared.astype(np.int64) * weight, cap, out=squared, casting="unsafe")
    return squared


def distance_steps(squared: Ints, steps_per_px: int = 64) -> Ints:
    """Distance as a whole number of steps: ``floor(sqrt(squared) * steps_per_px)``, exactly.

    Parameters
    ----------
    squared : ndarray of any shape, int32, C-contiguous
        Squared distances in px squared, none negative. Overwritten.
    steps_per_px : int
        Resolution of the result, 1 to 46340.

    Returns
    -------
    ndarray of the same shape, int32
        `squared`: distances in ``1 / steps_per_px`` px, rounded down.

    Raises
    ------
    ValueError
        `steps_per_px` is out of range, a result would not fit int32, or `squared` cannot be
        overwritten.
    """
    if not 1 <= steps_per_px <= MAX_LIMIT_PX:
        raise ValueError(f"steps_per_px is {steps_per_px}; it must be 1 to {MAX_LIMIT_PX}")
    if squared.dtype != np.int32 or not (squared.flags.c_contiguous and squared.flags.writeable):
        raise ValueError("squared must be a writeable C-contiguous int32 array")
    flat = squared.reshape(-1)
    largest = int(flat.max(initial=0))
    if math.isqrt(largest * steps_per_px**2) > np.iinfo(np.int32).max:
        raise ValueError(f"squared distance {largest} at {steps_per_px} steps a px exceeds int32")
    _root_steps(flat, np.int64(steps_per_px) ** 2)
    return squared


@njit(cache=True, nogil=True)
def _scan_first_axis(inside: Bytes, limit: np.int32) -> Ints:
    """Squared distance along axis 0 only: (N, M) uint8 of 0 and 1 -> (N, M) int32."""
    n, m = inside.shape
    out = np.empty((n, m), np.int32)
    for x in range(m):
        out[0, x] = limit * np.int32(inside[0, x])
    for y in range(1, n):
        for x in range(m):
            out[y, x] = min(out[y - 1, x] + np.int32(1), limit) * np.int32(inside[y, x])
    for y in range(n - 2, -1, -1):
        for x in range(m):
            below = out[y + 1, x]
            out[y, x] = min(out[y, x], below + np.int32(1))
            out[y + 1, x] = below * below
    for x in range(m):
        out[0, x] *= out[0, x]
    return out


@njit(cache=True, nogil=True)
def _lower_envelope_axis(squared: Ints, cap: int, weight: int) -> None:
    """Add the distance along axis 1 to (A, N, B) int32 in place; values stay at most `cap`.

    A step along the axis has the square `weight`.
    """
    a_count, n, b_count = squared.shape
    site = np.empty(n + 1, np.int64)
    start = np.empty(n + 1, np.int64)
    height = np.empty(n + 1, np.int64)
    for a in range(a_count):
        for b in range(b_count):
            first = 0
            while first < n:
                if squared[a, first, b] == 0:
                    first += 1
                    continue
                stop = first + 1
                while stop < n and squared[a, stop, b] != 0:
                    stop += 1
                _lower_envelope_run(squared[a, :, b], first, stop, cap, weight, site, start, height)
                first = stop + 1


@njit(cache=True, nogil=True)
def _lower_envelope_run(
    line: Ints,
    first: int,
    stop: int,
    cap: int,
    weight: int,
    site: Longs,
    start: Longs,
    height: Longs,
) -> None:
    """Solve one run ``first <= x < stop`` of foreground; `site` etc. are scratch stacks."""
    lo, hi = max(first - 1, 0), min(stop + 1, line.size)
    top = -1
    for u in range(lo, hi):
        h = np.int64(line[u])
        if h >= cap:  # it can only give saturated values
            continue
        while top >= 0:
            t, s = start[top], site[top]
            if weight * (t - s) * (t - s) + height[top] <= weight * (t - u) * (t - u) + h:
                break
            top -= 1
        begin = lo
        if top >= 0:
            s = site[top]
            # Not negative: the older parabola is the lower one at start[top] >= 0.
            begin = 1 + (weight * (u * u - s * s) + h - height[top]) // (2 * weight * (u - s))
        if begin < hi:
            top += 1
            site[top], start[top], height[top] = u, begin, h
    if top < 0:
        line[first:stop] = cap
        return
    for u in range(hi - 1, lo - 1, -1):
        s = site[top]
        line[u] = min(weight * (u - s) * (u - s) + height[top], cap)
        if u == start[top]:
            top -= 1


@njit(cache=True, nogil=True)
def _root_steps(squared: Ints, scale: np.int64) -> None:
    """``isqrt(squared * scale)`` of (N,) int32, in place."""
    for i in range(squared.size):
        target = np.int64(squared[i]) * scale
        root = np.int64(np.sqrt(np.float64(target)))
        # The product has up to 62 bits and float64 holds 53: the estimate may be one off.
        if root * root > target:
            root -= 1
        elif (root + 1) * (root + 1) <= target:
            root += 1
        squared[i] = root
