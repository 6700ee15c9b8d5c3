"""From the corners of one object in one plane to closed rings."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Longs = NDArray[np.int64]

# Pixels of a corner: bits of its code.
_NW, _NE, _SW, _SE = 1, 2, 4, 8
# Directions; the object lies where y grows while going east, so that areas of rings are positive.
_EAST, _WEST, _SOUTH, _NORTH = 0, 1, 2, 3


def trace_rings(y: Longs, x: Longs, code: Longs) -> tuple[Longs, Longs]:
    """Closed rings around and within an object.

    At a corner where two of its pixels meet by their corners only, a ring stays with its pixel;
    rings that come back to such a corner are cut in two. So no ring passes a point twice, and
    every ring belongs to pixels that are connected by their sides.

    Parameters
    ----------
    y, x, code : ndarray of shape (n,), int64
        Corners as `corners_2d` finds them, in raster order.

    Returns
    -------
    corners : ndarray of shape (n,), int64
        Numbers of the corners of all rings, one ring behind the other, without repeating the first.
    offsets : ndarray of shape (rings + 1,), int64
    """
    down = np.lexsort((y, x))
    place = np.empty(len(down), np.int64)
    place[down] = np.arange(len(down))
    size = len(y) + int(((code == (_NW | _SE)) | (code == (_NE | _SW))).sum())
    corners = np.empty(size, np.int64)
    offsets = np.empty(size + 1, np.int64)
    rings = _trace(code, down, place, corners, offsets)
    return corners, offsets[: rings + 1].copy()


@njit(cache=True, nogil=True)
def _way_out(code: int, came: int) -> int:
    """Direction in which a ring leaves a corner that it reached going `came`."""
    if code == _NW | _SE:
        return _WEST if came == _SOUTH else _EAST
    if code == _NE | _SW:
        return _SOUTH if came == _EAST else _NORTH
    return int(_first_way(code))


@njit(cache=True, nogil=True)
def _first_way(code: int) -> int:
    if code & _SE and not code & _NE:
        return _EAST
    if code & _NW and not code & _SW:
        return _WEST
    if code & _SW and not code & _SE:
        return _SOUTH
    return _NORTH


@njit(cache=True, nogil=True)
def _trace(code: Longs, down: Longs, place: Longs, corners: Longs, offsets: Longs) -> int:
    n = len(code)
    used = np.zeros((n, 4), np.bool_)
    position = np.full(n, -1, np.int64)
    stack = np.empty(2 * n + 1, np.int64)
    rings = 0
    filled = 0
    offsets[0] = 0
    for start in range(n):
        for turn in range(2):
            way = _first_way(code[start])
            if turn == 1:
                if code[start] == _NW | _SE:
                    way = _WEST
                elif code[start] == _NE | _SW:
                    way = _NORTH
            if used[start, way]:
                continue
            here = start
            top = 0
            while True:
                if position[here] >= 0:  # the ring was here: what lies between is one of its own
                    back = position[here]
                    for k in range(back, top):
                        corners[filled] = stack[k]
                        position[stack[k]] = -1
                        filled += 1
                    rings += 1
                    offsets[rings] = filled
                    top = back
                if used[here, way]:
                    break
                used[here, way] = True
                position[here] = top
                stack[top] = here
                top += 1
                if way == _EAST:
                    here += 1
                elif way == _WEST:
                    here -= 1
                elif way == _SOUTH:
                    here = down[place[here] + 1]
                else:
                    here = down[place[here] - 1]
                way = _way_out(code[here], way)
            for k in range(top):
                position[stack[k]] = -1
    return rings


def ring_areas(points: Longs, offsets: Longs) -> Longs:
    """Signed areas of rings, in px: above 0 around objects, below 0 around holes.

    Parameters
    ----------
    points : ndarray of shape (n, 2), int64
        y, x.
    """
    area = np.zeros(len(offsets) - 1, np.int64)
    _ring_areas(points, offsets, area)
    return area


@njit(cache=True, nogil=True)
def _ring_areas(points: Longs, offsets: Longs, area: Longs) -> None:
    for i in range(len(area)):
        twice = np.int64(0)
        last = offsets[i + 1] - 1
        for k in range(offsets[i], offsets[i + 1]):
            twice += points[last, 1] * points[k, 0] - points[k, 1] * points[last, 0]
            last = k
        area[i] = twice // 2


def owners(points: Longs, offsets: Longs, area: Longs) -> Longs:
    """The ring around each hole: the smallest of those that hold the pixel beside its first side.

    Returns
    -------
    ndarray of shape (rings,), int64
        Number of a ring; of rings that are no hole, their own.
    """
    found = np.arange(len(area))
    outer = np.flatnonzero(area > 0)
    outer = outer[np.argsort(area[outer], kind="stable")]
    if len(outer) == 1:
        found[:] = outer[0]
        return found
    boxes = np.zeros((len(area), 4), np.int64)
    _owners(points, offsets, area, outer, boxes, found)
    return found


@njit(cache=True, nogil=True)
def _owners(
    points: Longs, offsets: Longs, area: Longs, outer: Longs, boxes: Longs, found: Longs
) -> None:
    for i in outer:
        own = points[offsets[i] : offsets[i + 1]]
        boxes[i, 0], boxes[i, 1] = own[:, 0].min(), own[:, 1].min()
        boxes[i, 2], boxes[i, 3] = own[:, 0].max(), own[:, 1].max()
    for hole in range(len(area)):
        if area[hole] > 0:
            continue
        y, x = _pixel_beside(points[offsets[hole]], points[offsets[hole] + 1])
        for i in outer:
            if not (boxes[i, 0] <= y < boxes[i, 2] and boxes[i, 1] <= x < boxes[i, 3]):
                continue
            if _holds(points[offsets[i] : offsets[i + 1]], y, x):
                found[hole] = i
                break


@njit(cache=True, nogil=True)
def _pixel_beside(a: NDArray[Any], b: NDArray[Any]) -> tuple[int, int]:
    """The object's pixel beside the first side of the way from one corner to the next."""
    if a[0] == b[0]:
        return (a[0], a[1]) if b[1] > a[1] else (a[0] - 1, a[1] - 1)
    return (a[0], a[1] - 1) if b[0] > a[0] else (a[0] - 1, a[1])


@njit(cache=True, nogil=True)
def _holds(ring: Longs, y: int, x: int) -> bool:
    """Whether the middle of a pixel lies in a ring: sides that go down, to its left, are odd."""
    inside = False
    last = len(ring) - 1
    for k in range(len(ring)):
        y0, y1 = ring[last, 0], ring[k, 0]
        if ring[k, 1] == ring[last, 1] and ring[k, 1] <= x and (y0 <= y) != (y1 <= y):
            inside = not inside
        last = k
    return inside
