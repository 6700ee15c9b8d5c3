"""Mean shift of every pixel in the joint domain of place and colour, under a flat kernel.

The steps and their rounding are those of OpenCV's `pyrMeanShiftFiltering` on one level: images of
whole numbers keep whole-number colours, and a place is rounded, ties to even, after its mean has
been taken in the frame's own coordinates. Every sum runs in raster order over a window that only
the frame's border cuts off, so a pixel's result does not depend on the tile that computes it.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

Planes: TypeAlias = NDArray[Any]
Floats: TypeAlias = NDArray[np.float64]
Longs: TypeAlias = NDArray[np.int64]
Place: TypeAlias = tuple[int, int, int]


def filtered_colors(
    colors: NDArray[Any],
    start: tuple[int, ...],
    inner: tuple[slice, ...],
    radius_px: int,
    bandwidth: float,
    iterations: int,
) -> NDArray[Any]:
    """Colours at which the pixels of a box come to rest.

    From its place and colour, a pixel goes to the mean place and mean colour of the pixels that are
    at most `radius_px` away on every axis and at most `bandwidth` away in colour, up to
    `iterations` times. It rests where its place no longer changes, or where it has moved by 1 px
    and kept its colour.

    Parameters
    ----------
    colors : ndarray of shape (C, Y, X) or (C, Z, Y, X), real
        NaN: a pixel that takes no part. At least `radius_px` * `iterations` px around the box,
        except at the frame's border.
    start : tuple of int
        Where `colors` begin in the frame.
    inner : tuple of slice
        The box, in `colors`.
    radius_px : int
    bandwidth : float
        For whole numbers its square is rounded, as OpenCV has it.
    iterations : int

    Returns
    -------
    ndarray of shape (C, \\*box), int32 or float64
        int32 for integers of 8 bits. Whole numbers where `colors` are integers; NaN where a pixel
        takes no part.

    References
    ----------
    Comaniciu, Meer, Mean shift: a robust approach toward feature space analysis, 2002,
    doi:10.1109/34.1000236
    """
    whole = colors.dtype.kind in "iu"
    # Sums of squares of 8 bits fit into 32, which makes the sums four times as fast.
    kind = np.int32 if whole and colors.dtype.itemsize == 1 else np.float64
    planes = _as_volumes(colors.astype(kind, copy=False))
    limit = color_limit(bandwidth, whole)
    flat = tuple(slice(0, 1) for _ in range(4 - colors.ndim))
    box = np.array([(s.start, s.stop) for s in flat + inner], np.int64)
    origin = np.array((0,) * (4 - colors.ndim) + start, np.int64)
    out = np.empty((len(planes), *(box[:, 1] - box[:, 0])), kind)
    if kind is np.int32:
        limit = min(limit, 2**31 - 1)  # farther than any two colours
    _filter(planes, origin, box, radius_px, kind(limit), iterations, whole, out)
    return out.reshape(len(planes), *(s.stop - s.start for s in inner))


def color_limit(bandwidth: float, whole: bool) -> float:
    """The largest squared distance of colours that are within the bandwidth."""
    square = bandwidth * bandwidth
    return float(np.rint(square)) if whole else square


def _as_volumes(planes: Planes) -> Planes:
    channels, *shape = planes.shape
    return np.ascontiguousarray(planes).reshape(channels, *(1,) * (3 - len(shape)), *shape)


@njit(cache=True, nogil=True)
def _filter(
    planes: Planes,
    origin: Longs,
    box: Longs,
    radius: int,
    limit: float,
    iterations: int,
    whole: bool,
    out: Planes,
) -> None:
    color = np.empty(len(planes), planes.dtype)
    sums = np.empty(len(planes), np.float64)
    row = np.empty(2 * radius + 1, planes.dtype)
    for z in range(box[0, 0], box[0, 1]):
        for y in range(box[1, 0], box[1, 1]):
            for x in range(box[2, 0], box[2, 1]):
                place = (z, y, x)
                for c in range(len(planes)):
                    color[c] = planes[c, z, y, x]
                for _ in range(iterations):
                    if len(planes) == 3:
                        found = _sum_three(planes, place, radius, color, limit, sums)
                    else:
                        found = _sum_any(planes, place, radius, color, limit, sums, row)
                    if found[0] == 0:  # a mean may lie far from all that it is the mean of
                        break
                    change = _mean_color(color, sums, 1.0 / found[0], whole)
                    before, place = place, _mean_place(found, origin)
                    moved = _steps(before, place)
                    if moved == 0 or moved + change <= 1.0:
                        break
                for c in range(len(planes)):
                    out[c, z - box[0, 0], y - box[1, 0], x - box[2, 0]] = color[c]


@njit(cache=True, nogil=True)
def _mean_color(color: Planes, sums: Floats, part: float, whole: bool) -> float:
    """Move the colour to the mean; the square of how far it moved."""
    change = 0.0
    for c in range(len(color)):
        mean = sums[c] * part
        if whole:
            mean = np.rint(mean)
        change += (mean - color[c]) ** 2
        color[c] = mean
    return change


@njit(cache=True, nogil=True)
def _mean_place(found: tuple[int, int, int, int], origin: Longs) -> Place:
    """The rounded mean; how it is rounded must not depend on where the window begins."""
    count, z, y, x = found
    part = 1.0 / count
    return (
        np.int64(np.rint((z + count * origin[0]) * part)) - origin[0],
        np.int64(np.rint((y + count * origin[1]) * part)) - origin[1],
        np.int64(np.rint((x + count * origin[2]) * part)) - origin[2],
    )


@njit(cache=True, nogil=True)
def _steps(a: Place, b: Place) -> int:
    return abs(a[0] - b[0]) + abs(a[1] - b[1]) + abs(a[2] - b[2])


@njit(cache=True, nogil=True)
def _sum_three(
    planes: Planes, place: Place, radius: int, color: Planes, limit: float, sums: Floats
) -> tuple[int, int, int, int]:
    """Sum the colours of the pixels around a place that are within the limit.

    Returns their number and the sums of z, y and x. Three channels in one loop, as colour images
    have them: about 1.7 times as fast as `_sum_any`.
    """
    kind = planes.dtype.type
    _, depth, height, width = planes.shape
    z, y, x = place
    left, right = max(x - radius, 0), min(x + radius + 1, width)
    color0, color1, color2 = color[0], color[1], color[2]
    total, sum_z, sum_y, sum_x = 0, 0, 0, 0
    sums[:] = 0
    for k in range(max(z - radius, 0), min(z + radius + 1, depth)):
        for j in range(max(y - radius, 0), min(y + radius + 1, height)):
            row0 = planes[0, k, j, left:right]
            row1 = planes[1, k, j, left:right]
            row2 = planes[2, k, j, left:right]
            sum0, sum1, sum2 = kind(0), kind(0), kind(0)
            count, places = np.int32(0), np.int32(0)
            for i in range(right - left):
                # Numba makes 64 bits of 32; these casts keep the loop twice as fast.
                apart0 = kind(row0[i] - color0)
                apart1 = kind(row1[i] - color1)
                apart2 = kind(row2[i] - color2)
                square = kind(kind(apart0 * apart0) + kind(apart1 * apart1))
                inside = kind(square + kind(apart2 * apart2)) <= limit
                sum0 = kind(sum0 + (row0[i] if inside else kind(0)))
                sum1 = kind(sum1 + (row1[i] if inside else kind(0)))
                sum2 = kind(sum2 + (row2[i] if inside else kind(0)))
                count = np.int32(count + np.int32(inside))
                places = np.int32(places + (np.int32(i) if inside else np.int32(0)))
            sums[0] += sum0
            sums[1] += sum1
            sums[2] += sum2
            number = int(count)
            total += number
            sum_z += number * k
            sum_y += number * j
            sum_x += number * left + int(places)
    return total, sum_z, sum_y, sum_x


@njit(cache=True, nogil=True)
def _sum_any(
    planes: Planes,
    place: Place,
    radius: int,
    color: Planes,
    limit: float,
    sums: Floats,
    row: Planes,
) -> tuple[int, int, int, int]:
    """`_sum_three` for any number of channels; `row` is scratch of 2 `radius` + 1."""
    kind = planes.dtype.type
    channels, depth, height, width = planes.shape
    z, y, x = place
    left, right = max(x - radius, 0), min(x + radius + 1, width)
    square = row[: right - left]
    total, sum_z, sum_y, sum_x = 0, 0, 0, 0
    sums[:] = 0
    for k in range(max(z - radius, 0), min(z + radius + 1, depth)):
        for j in range(max(y - radius, 0), min(y + radius + 1, height)):
            square[:] = 0
            for c in range(channels):
                values = planes[c, k, j, left:right]
                own = color[c]
                for i in range(len(values)):
                    apart = kind(values[i] - own)
                    square[i] += kind(apart * apart)
            count, places = np.int32(0), np.int32(0)
            for i in range(len(square)):
                inside = square[i] <= limit
                count = np.int32(count + np.int32(inside))
                places = np.int32(places + (np.int32(i) if inside else np.int32(0)))
            for c in range(channels):
                values = planes[c, k, j, left:right]
                part = kind(0)
                for i in range(len(values)):
                    part = kind(part + (values[i] if square[i] <= limit else kind(0)))
                sums[c] += part
            number = int(count)
            total += number
            sum_z += number * k
            sum_y += number * j
            sum_x += number * left + int(places)
    return total, sum_z, sum_y, sum_x
