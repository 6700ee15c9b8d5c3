"""Growing regions inside one core: floods that stay within an interval of grey values.

A *patch* is a connected component, within a core, of the pixels of one interval. A flood touches
its patch only, so that many small regions in a large core cost what their pixels cost.

Pixels on the core's borders are counted face by face: the two faces of the first axis, then those
of the next one, each in raster order (`face_offsets`). A pixel at an edge lies on several faces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.kernels.rows import with_room

Values: TypeAlias = NDArray[np.float32 | np.float64]
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int32]
Longs: TypeAlias = NDArray[np.int64]
Shape: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Grown:
    """What `grow` found.

    Parameters
    ----------
    patch : ndarray of shape (starts,), int64
        Number of the patch that each start lies in, from 0; -1 where its pixel is outside the
        interval.
    interval, root, count : ndarray of shape (n,), int64
        Of each patch: its interval, its first pixel in raster order, its number of pixels.
    total, square_high, square_low : ndarray of shape (n,), int64
        Sums of the values in steps; the square sum is high * 2**32 + low.
    extremes : ndarray of shape (n, 2), float64
        Smallest and largest value.
    faces : ndarray of shape (m, 2), int64
        Rows (patch, position on the faces), in no stated order.
    touched : ndarray of shape (3, 3, 3), bool
        Whether a patch lies at the border towards the direction (d + 1 an axis).
    """

    patch: Longs
    interval: Longs
    root: Longs
    count: Longs
    total: Longs
    square_high: Longs
    square_low: Longs
    extremes: Floats
    faces: Longs
    touched: NDArray[np.bool_]


def face_offsets(shape: Shape) -> Longs:
    """First position of each face of a core (Z, Y, X), and behind the last one; shape (7,)."""
    planes, rows, columns = shape
    sizes = np.repeat(np.array([rows * columns, planes * columns, planes * rows], np.int64), 2)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])


def grow(
    values: Values,
    bounds: Floats,
    interval: Longs,
    start: Longs,
    steps: Longs,
    quantum: tuple[float, float],
    open_faces: NDArray[np.bool_],
) -> Grown:
    """Flood the patches that hold the starts.

    Parameters
    ----------
    values : ndarray of shape (Z, Y, X), float32 or float64, C-contiguous
        NaN is outside every interval.
    bounds : ndarray of shape (k, 2), float64
        Lowest and highest value of each interval, both included.
    interval, start : ndarray of shape (n,), int64
        Interval and raster index of every start; equal intervals must follow each other.
    steps : ndarray of shape (c, 3), int64
        See `neighbour_steps`.
    quantum : tuple of float
        Offset and step in which values are summed.
    open_faces : ndarray of shape (6,), bool
        Faces behind which the image goes on; pixels of others are not reported.
    """
    return Grown(
        *_grow(
            values,
            bounds,
            interval,
            start,
            steps,
            quantum[0],
            1.0 / quantum[1],
            open_faces,
            face_offsets(values.shape),
        )
    )


def paint(values: Values, bounds: Floats, start: Longs, number: Ints, steps: Longs) -> Ints:
    """Flood patches one after the other; a pixel keeps the number that comes first.

    Parameters
    ----------
    values, steps
        As for `grow`.
    bounds : ndarray of shape (n, 2), float64
    start : ndarray of shape (n,), int64
    number : ndarray of shape (n,), int32
        Interval, pixel and number, from 1, of each patch.

    Returns
    -------
    ndarray of shape (Z, Y, X), int32
        0 where there is no patch.
    """
    numbers = np.zeros(values.shape, np.int32)
    _paint(values, bounds, start, number, steps, numbers.reshape(-1))
    return numbers


@njit(cache=True, nogil=True)
def _fill(
    values: NDArray[Any],
    low: float,
    high: float,
    start: int,
    base: int,
    mark: int,
    owner: Ints,
    queue: Ints,
    steps: Longs,
) -> int:
    """Put the patch of a pixel into the queue; what is owned by `base` or more is known.

    Returns the number of its pixels.
    """
    planes, rows, columns = values.shape
    flat = values.reshape(-1)
    owner[start] = mark
    queue[0] = start
    head, tail = 0, 1
    while head < tail:
        p = queue[head]
        head += 1
        row, x = p // columns, p % columns
        z, y = row // rows, row % rows
        for k in range(steps.shape[0]):
            c, b, a = z + steps[k, 0], y + steps[k, 1], x + steps[k, 2]
            if c < 0 or c >= planes or b < 0 or b >= rows or a < 0 or a >= columns:
                continue
            q = (c * rows + b) * columns + a
            if owner[q] < base and low <= flat[q] <= high:
                owner[q] = mark
                queue[tail] = q
                tail += 1
    return tail


@njit(cache=True, nogil=True)
def _grow(
    values: NDArray[Any],
    bounds: Floats,
    interval: Longs,
    start: Longs,
    steps: Longs,
    offset: float,
    per_unit: float,
    open_faces: NDArray[np.bool_],
    offsets: Longs,
) -> tuple[
    Longs, Longs, Longs, Longs, Longs, Longs, Longs, Floats, Longs, NDArray[np.bool_]
]:  # the fields of Grown
    n = start.size
    flat = values.reshape(-1)
    owner = np.zeros(flat.size, np.int32)
    queue = np.empty(flat.size, np.int32)
    patch = np.full(n, -1, np.int64)
    sums = np.empty((64, 6), np.int64)
    extremes = np.empty((64, 2))
    faces = np.empty((1024, 2), np.int64)
    touched = np.zeros((3, 3, 3), np.bool_)
    found, used, base = 0, 0, 1
    for e in range(n):
        i, p = interval[e], start[e]
        if e > 0 and i != interval[e - 1]:
            base = found + 1
        if owner[p] >= base:
            patch[e] = owner[p] - 1
            continue
        low, high = bounds[i, 0], bounds[i, 1]
        if not low <= flat[p] <= high:
            continue
        size = _fill(values, low, high, p, base, found + 1, owner, queue, steps)
        patch[e] = found
        sums, extremes = with_room(sums, found, 1), with_room(extremes, found, 1)
        sums[found, 0] = i
        _measure(flat, queue[:size], offset, per_unit, sums[found], extremes[found])
        for k in range(size):
            used, faces = _report(
                queue[k], found, values.shape, open_faces, offsets, used, faces, touched
            )
        found += 1
    return (
        patch,
        sums[:found, 0].copy(),
        sums[:found, 1].copy(),
        sums[:found, 2].copy(),
        sums[:found, 3].copy(),
        sums[:found, 4].copy(),
        sums[:found, 5].copy(),
        extremes[:found].copy(),
        faces[:used].copy(),
        touched,
    )


@njit(cache=True, nogil=True)
def _measure(
    flat: NDArray[Any],
    pixels: Ints,
    offset: float,
    per_unit: float,
    sums: Longs,
    extremes: Floats,
) -> None:
    """Root, count and sums of a patch, in whole steps, so that no order matters."""
    root = np.int64(pixels[0])
    total, square_high, square_low = np.int64(0), np.int64(0), np.int64(0)
    smallest, largest = np.float64(flat[root]), np.float64(flat[root])
    for p in pixels:
        root = min(root, np.int64(p))
        value = np.float64(flat[p])
        smallest, largest = min(smallest, value), max(largest, value)
        q = np.int64(np.rint((value - offset) * per_unit))
        total += q
        square = q * q
        square_high += square >> 32
        square_low += square & 0xFFFFFFFF
    sums[1], sums[2], sums[3] = root, pixels.size, total
    sums[4], sums[5] = square_high, square_low
    extremes[0], extremes[1] = smallest, largest


@njit(cache=True, nogil=True)
def _report(
    p: int,
    patch: int,
    shape: Shape,
    open_faces: NDArray[np.bool_],
    offsets: Longs,
    used: int,
    faces: Longs,
    touched: NDArray[np.bool_],
) -> tuple[int, Longs]:
    """Note where a pixel lies on open faces, and which directions it touches."""
    planes, rows, columns = shape
    row, x = p // columns, p % columns
    z, y = row // rows, row % rows
    # A plane has no faces above and below; a volume's core of one plane does.
    flat = not (open_faces[0] or open_faces[1])
    if 0 < x < columns - 1 and 0 < y < rows - 1 and (flat or 0 < z < planes - 1):
        return used, faces
    faces = with_room(faces, used, 6)
    at = (
        (z == 0 and open_faces[0], z == planes - 1 and open_faces[1]),
        (y == 0 and open_faces[2], y == rows - 1 and open_faces[3]),
        (x == 0 and open_faces[4], x == columns - 1 and open_faces[5]),
    )
    place = (y * columns + x, z * columns + x, z * rows + y)
    for axis in range(3):
        for side in range(2):
            if at[axis][side]:
                faces[used, 0] = patch
                faces[used, 1] = offsets[2 * axis + side] + place[axis]
                used += 1
    for c in range(3):
        for b in range(3):
            for a in range(3):
                if (
                    (c == 1 or at[0][c // 2])
                    and (b == 1 or at[1][b // 2])
                    and (a == 1 or at[2][a // 2])
                ):
                    touched[c, b, a] = True
    return used, faces


@njit(cache=True, nogil=True)
def _paint(
    values: NDArray[Any], bounds: Floats, start: Longs, number: Ints, steps: Longs, out: Ints
) -> None:
    owner = np.zeros(out.size, np.int32)
    queue = np.empty(out.size, np.int32)
    for e in range(start.size):
        low, high = bounds[e, 0], bounds[e, 1]
        size = _fill(values, low, high, start[e], e + 1, e + 1, owner, queue, steps)
        for p in queue[:size]:
            if out[p] == 0:
                out[p] = number[e]
