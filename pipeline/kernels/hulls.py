"""Convex hulls of labels in planes, in whole numbers: the hull of hulls of parts is that of all.

Vertices are middles of pixels. What is measured is the hull of the middles of the pixels' sides,
as `skimage.morphology.convex_hull_image` takes it, in halves of a pixel.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

Labels: TypeAlias = npt.NDArray[np.uint32]
Longs: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]


def run_ends(labels: Labels, count: int) -> Longs:
    """First and last pixels of the runs of every label.

    Parameters
    ----------
    labels : ndarray of shape (Z, Y, X), uint32
        1..`count`; 0 is background.

    Returns
    -------
    ndarray of shape (n, 4), int64
        Label, z, y, x; in the order of labels, then of rasters.
    """
    runs = np.zeros(count + 1, np.int64)
    _count_runs(labels, runs)
    begin = 2 * (np.cumsum(runs) - runs)
    found = np.empty((2 * int(runs.sum()), 4), np.int64)
    _fill_runs(labels, begin, found)
    return found


@njit(cache=True, nogil=True)
def _count_runs(labels: Labels, runs: Longs) -> None:
    planes, rows, columns = labels.shape
    for z in range(planes):
        for y in range(rows):
            for x in range(columns):
                own = labels[z, y, x]
                if own != 0 and (x == 0 or labels[z, y, x - 1] != own):
                    runs[own] += 1


@njit(cache=True, nogil=True)
def _fill_runs(labels: Labels, place: Longs, found: Longs) -> None:
    planes, rows, columns = labels.shape
    for z in range(planes):
        for y in range(rows):
            for x in range(columns):
                own = labels[z, y, x]
                if own == 0:
                    continue
                starts = x == 0 or labels[z, y, x - 1] != own
                stops = x == columns - 1 or labels[z, y, x + 1] != own
                for ends in (starts, stops):
                    if ends:
                        k = place[own]
                        place[own] += 1
                        found[k, 0], found[k, 1], found[k, 2], found[k, 3] = own, z, y, x


def plane_hulls(points: Longs) -> Longs:
    """Keep the vertices of the hull of each label in each plane.

    Parameters
    ----------
    points : ndarray of shape (n, 4), int64
        Label, z, y, x; sorted by these.

    Returns
    -------
    ndarray of shape (m, 4), int64
        Sorted; no point lies between two others.
    """
    keep = np.zeros(len(points), np.bool_)
    _plane_hulls(points, keep)
    return points[keep]


@njit(cache=True, nogil=True)
def _plane_hulls(points: Longs, keep: npt.NDArray[np.bool_]) -> None:
    n = len(points)
    stack = np.empty(n, np.int64)
    begin = 0
    while begin < n:
        end = begin + 1
        while end < n and points[end, 0] == points[begin, 0] and points[end, 1] == points[begin, 1]:
            end += 1
        for side in (1, -1):
            top = 0
            for i in range(begin, end):
                if (
                    i > begin
                    and points[i, 2] == points[i - 1, 2]
                    and points[i, 3] == points[i - 1, 3]
                ):
                    continue
                while top > 1 and side * _turn(points, stack[top - 2], stack[top - 1], i) <= 0:
                    top -= 1
                stack[top] = i
                top += 1
            for i in range(top):
                keep[stack[i]] = True
        begin = end


@njit(cache=True, nogil=True)
def _turn(points: Longs, a: int, b: int, c: int) -> int:
    """Above 0 where the way a, b, c turns from y towards x."""
    down, right = points[b, 2] - points[a, 2], points[b, 3] - points[a, 3]
    return int(down * (points[c, 3] - points[b, 3]) - right * (points[c, 2] - points[b, 2]))


def polygon_measures(
    points: Longs, offsets: Longs, size_y: float, size_x: float
) -> tuple[Longs, Floats]:
    """Size of the convex hulls of planar objects, and their diameters.

    Parameters
    ----------
    points : ndarray of shape (n, 2), int64
        y, x of hull vertices, sorted within each object.
    offsets : ndarray of shape (objects + 1,), int64
        Vertices of object i are offsets[i] .. offsets[i + 1].
    size_y, size_x : float
        Micrometres a pixel, or NaN.

    Returns
    -------
    area : ndarray of shape (objects,), int64
        Pixels whose middle lies in the hull or on its border.
    feret : ndarray of shape (objects, 4), float64
        Largest and smallest diameter of these pixels' side middles in px, then in um.
    """
    count = len(offsets) - 1
    area = np.zeros(count, np.int64)
    feret = np.zeros((count, 4))
    _polygon_measures(points, offsets, size_y, size_x, area, feret)
    return area, feret


@njit(cache=True, nogil=True)
def _polygon_measures(
    points: Longs, offsets: Longs, size_y: float, size_x: float, area: Longs, feret: Floats
) -> None:
    for i in range(len(offsets) - 1):
        own = points[offsets[i] : offsets[i + 1]]
        if len(own) == 0:
            continue
        first = own[0, 0]
        rows = filled_rows(_chain(_diamonds(own)), first, own[-1, 0])
        ends = np.empty((2 * len(rows), 2), np.int64)
        for r in range(len(rows)):
            area[i] += rows[r, 1] - rows[r, 0] + 1
            for side in range(2):
                ends[2 * r + side, 0], ends[2 * r + side, 1] = first + r, rows[r, side]
        hull = _chain(_diamonds(ends))
        feret[i, 0], feret[i, 1] = _diameters(hull, 0.5, 0.5)
        feret[i, 2], feret[i, 3] = _diameters(hull, 0.5 * size_y, 0.5 * size_x)


@njit(cache=True, nogil=True)
def _diamonds(points: Longs) -> Longs:
    """Middles of the sides of pixels, in half pixels, sorted."""
    found = np.empty((4 * len(points), 2), np.int64)
    keys = np.empty(4 * len(points), np.int64)
    left = points[:, 1].min() - 1
    width = points[:, 1].max() - left + 2
    n = 0
    for k in range(len(points)):
        y, x = 2 * points[k, 0], 2 * points[k, 1]
        for b, a in ((y - 1, x), (y, x - 1), (y, x + 1), (y + 1, x)):
            found[n, 0], found[n, 1] = b, a
            keys[n] = (b - 2 * points[0, 0] + 1) * 2 * width + a - 2 * left
            n += 1
    return found[np.argsort(keys, kind="mergesort")]


@njit(cache=True, nogil=True)
def _chain(points: Longs) -> Longs:
    """Hull of sorted points, turning from y towards x all the way round."""
    n = len(points)
    hull = np.empty((2 * n + 1, 2), np.int64)
    top = 0
    for way in range(2):
        base = top
        for k in range(n):
            point = points[k] if way == 0 else points[n - 1 - k]
            while top > base + 1 and (
                (hull[top - 1, 0] - hull[top - 2, 0]) * (point[1] - hull[top - 1, 1])
                - (hull[top - 1, 1] - hull[top - 2, 1]) * (point[0] - hull[top - 1, 0])
                <= 0
            ):
                top -= 1
            hull[top, 0], hull[top, 1] = point[0], point[1]
            top += 1
        top -= 1  # the last point begins the way back
    return hull[: max(top, 1)]


@njit(cache=True, nogil=True)
def filled_rows(hull: Longs, first: int, last: int) -> Longs:
    """First and last pixel of the rows `first`..`last` in a hull given in half pixels.

    An edge of a hull that turns from y towards x bounds rows from the left where y falls, and
    from the right where it rises.
    """
    rows = np.empty((last - first + 1, 2), np.int64)
    rows[:, 0] = -(2**62)
    rows[:, 1] = 2**62
    n = len(hull)
    for k in range(n):
        y0, x0 = hull[k, 0], hull[k, 1]
        y1, x1 = hull[(k + 1) % n, 0], hull[(k + 1) % n, 1]
        if y0 == y1:
            continue
        low, high = min(y0, y1), max(y0, y1)
        for row in range(max(first, -(-low // 2)), min(last, high // 2) + 1):
            # x of the edge at 2 * row is (x0 * dy + (2 * row - y0) * dx) / dy; halved for pixels.
            dy = y1 - y0
            over = x0 * dy + (2 * row - y0) * (x1 - x0)
            under = 2 * dy
            if under < 0:
                over, under = -over, -under
            r = row - first
            if y1 > y0:
                rows[r, 0] = max(rows[r, 0], -(-over // under))
            else:
                rows[r, 1] = min(rows[r, 1], over // under)
    return rows


@njit(cache=True, nogil=True)
def _diameters(hull: Longs, half_y: float, half_x: float) -> tuple[float, float]:
    """Largest distance of two vertices, and smallest distance of two parallels around a hull."""
    n = len(hull)
    largest = 0.0
    smallest = np.inf
    for k in range(n):
        y0, x0 = hull[k, 0], hull[k, 1]
        ey = (hull[(k + 1) % n, 0] - y0) * half_y
        ex = (hull[(k + 1) % n, 1] - x0) * half_x
        length = np.sqrt(ey * ey + ex * ex)
        width = 0.0
        for i in range(n):
            dy = (hull[i, 0] - y0) * half_y
            dx = (hull[i, 1] - x0) * half_x
            largest = max(largest, dy * dy + dx * dx)
            width = max(width, abs(ey * dx - ex * dy))
        smallest = min(smallest, width / length)
    if np.isnan(half_y * half_x):
        return np.nan, np.nan
    return np.sqrt(largest), smallest
