"""Counts of local configurations of labels: sums over cores add up to those of the whole image.

Every function takes a window: labels of shape (Z, Y, X) with `halo` px (z, y, x) around the core,
0 behind the frame's border. What is counted belongs to a pixel of the core, or to the corner
above it, so that every configuration of the frame is counted by one tile.
"""

from __future__ import annotations

import itertools
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

Labels: TypeAlias = npt.NDArray[np.uint32]
Longs: TypeAlias = npt.NDArray[np.int64]
Halo: TypeAlias = tuple[int, int, int]

#: What a corner of pixels belongs to: bit k of a configuration is the pixel at step k behind it.
CORNER_STEPS = np.array(list(itertools.product((-1, 0), repeat=3)), np.int64)


def half_steps(ndim: int) -> Longs:
    """Steps to neighbours, one of each opposite pair: 4 in 2D, 13 in 3D.

    Returns
    -------
    ndarray of shape (k, 3), int64
        dz, dy, dx; those along one axis come first, in the order of the axes.
    """
    planes = (0,) if ndim == 2 else (-1, 0, 1)
    steps = [s for s in itertools.product(planes, (-1, 0, 1), (-1, 0, 1)) if s > (0, 0, 0)]
    return np.array(sorted(steps, key=lambda s: (sum(map(abs, s)), *(-abs(i) for i in s), s)))


def crossings(labels: Labels, halo: Halo, count: int, steps: Longs) -> Longs:
    """How often a step of one pixel, there and back, leaves each label.

    Parameters
    ----------
    labels : ndarray of shape (Z, Y, X), uint32
        A window of 1..`count` with a halo of at least 1 px along the axes of `steps`.
    steps : ndarray of shape (k, 3), int64

    Returns
    -------
    ndarray of shape (count, k), int64
    """
    found = np.zeros((count, len(steps)), np.int64)
    _crossings(labels, *halo, steps, found)
    return found


@njit(cache=True, nogil=True)
def _crossings(labels: Labels, hz: int, hy: int, hx: int, steps: Longs, found: Longs) -> None:
    planes, rows, columns = labels.shape
    flat = labels.reshape(-1)
    way = np.empty(len(steps), np.int64)
    for k in range(len(steps)):
        way[k] = (steps[k, 0] * rows + steps[k, 1]) * columns + steps[k, 2]
    for z in range(hz, planes - hz):
        for y in range(hy, rows - hy):
            place = (z * rows + y) * columns + hx
            for x in range(place, place + columns - 2 * hx):
                own = flat[x]
                if own == 0:
                    continue
                for k in range(len(way)):
                    there = np.int64(flat[x + way[k]] != own) + np.int64(flat[x - way[k]] != own)
                    if there:
                        found[own - 1, k] += there


def perimeter_classes(labels: Labels, halo: Halo, count: int) -> Longs:
    """Border pixels of each label in planes, by the weight that a perimeter gives them.

    A border pixel has a side in common with what is not its label. Its weight follows from the
    border pixels of its label among its eight neighbours.

    Parameters
    ----------
    labels : ndarray of shape (Z, Y, X), uint32
        A window of 1..`count` with a halo of at least 2 px in y and x.

    Returns
    -------
    ndarray of shape (count, 3), int64
        Pixels of weight 1, sqrt(2) and (1 + sqrt(2)) / 2.

    References
    ----------
    Benkrid, Crookes: Design and FPGA implementation of a perimeter estimator, 2000; as in
    `skimage.measure.perimeter`.
    """
    found = np.zeros((count, 3), np.int64)
    _perimeter_classes(labels, *halo, _perimeter_weights(), found)
    return found


def _perimeter_weights() -> Longs:
    """Class of a border pixel, by 2 * sides + 10 * diagonals + 1; -1 where it counts nothing."""
    weights = np.full(50, -1, np.int64)
    weights[[5, 7, 15, 17, 25, 27]] = 0
    weights[[21, 33]] = 1
    weights[[13, 23]] = 2
    return weights


@njit(cache=True, nogil=True)
def _is_border(labels: Labels, z: int, y: int, x: int, own: int) -> bool:
    return bool(
        labels[z, y - 1, x] != own
        or labels[z, y + 1, x] != own
        or labels[z, y, x - 1] != own
        or labels[z, y, x + 1] != own
    )


@njit(cache=True, nogil=True)
def _perimeter_classes(
    labels: Labels, hz: int, hy: int, hx: int, weights: Longs, found: Longs
) -> None:
    planes, rows, columns = labels.shape
    for z in range(hz, planes - hz):
        for y in range(hy, rows - hy):
            for x in range(hx, columns - hx):
                own = labels[z, y, x]
                if own == 0 or not _is_border(labels, z, y, x, own):
                    continue
                code = 1
                for dy in range(-1, 2):
                    for dx in range(-1, 2):
                        if dy == 0 and dx == 0:
                            continue
                        b, a = y + dy, x + dx
                        if labels[z, b, a] == own and _is_border(labels, z, b, a, own):
                            code += 10 if dy != 0 and dx != 0 else 2
                kind = weights[code]
                if kind >= 0:
                    found[own - 1, kind] += 1


def euler_sums(labels: Labels, halo: Halo, count: int, ndim: int, first: Halo) -> Longs:
    """Euler numbers of each label, times 4 in 2D and times 8 in 3D.

    Pixels are closed squares or cubes, so those that meet in a corner are connected (8 in 2D, 26
    in 3D). A corner of the grid has its part of vertices, edges, faces and cubes.

    Parameters
    ----------
    labels : ndarray of shape (Z, Y, X), uint32
        A window of 1..`count` with a halo of at least 1 px along the frame's axes.
    first : tuple of int
        1 for each axis along which the core is the frame's last; corners behind it are its own.

    Returns
    -------
    ndarray of shape (count,), int64
    """
    found = np.zeros(count, np.int64)
    steps = CORNER_STEPS if ndim == 3 else CORNER_STEPS[4:]
    _euler_sums(labels, *halo, steps, euler_parts(ndim), *first, found)
    return found


def euler_parts(ndim: int) -> Longs:
    """What a corner adds to 2**ndim Euler numbers, by the configuration of its pixels."""
    corners = 2**ndim
    places = list(itertools.product((0, 1), repeat=ndim))
    parts = np.zeros(2**corners, np.int64)
    for code in range(2**corners):
        inside = {place for k, place in enumerate(places) if code >> k & 1}
        # A cell of dimension d at the corner lies along d axes, on one side of each; it is there
        # if a pixel around it is, and it has 2**d corners.
        for d in range(ndim + 1):
            for axes in itertools.combinations(range(ndim), d):
                cells = {tuple(place[i] for i in axes) for place in inside}
                parts[code] += (-1) ** d * len(cells) * 2 ** (ndim - d)
    return parts


@njit(cache=True, nogil=True)
def _euler_sums(
    labels: Labels,
    hz: int,
    hy: int,
    hx: int,
    steps: Longs,
    parts: Longs,
    lz: int,
    ly: int,
    lx: int,
    found: Longs,
) -> None:
    planes, rows, columns = labels.shape
    flat = labels.reshape(-1)
    size = len(steps)
    near = np.empty(size, np.uint32)
    way = np.empty(size, np.int64)
    for k in range(size):
        way[k] = (steps[k, 0] * rows + steps[k, 1]) * columns + steps[k, 2]
    for z in range(hz, planes - hz + lz):
        for y in range(hy, rows - hy + ly):
            place = (z * rows + y) * columns + hx
            for x in range(place, place + columns - 2 * hx + lx):
                own = flat[x]
                same = True
                for k in range(size):
                    same &= flat[x + way[k]] == own
                if same:
                    continue
                for k in range(size):
                    near[k] = flat[x + way[k]]
                for k in range(size):
                    own = near[k]
                    if own == 0:
                        continue
                    code = 0
                    seen = False
                    for i in range(size):
                        if near[i] == own:
                            seen = seen or i < k
                            code |= 1 << i
                    if not seen:
                        found[own - 1] += parts[code]


def contacts(labels: Labels, halo: Halo, steps: Longs) -> Longs:
    """Faces of pixels at which two labels meet, each once from either side.

    Parameters
    ----------
    labels : ndarray of shape (Z, Y, X), uint32
        A window with a halo of at least 1 px along the axes of `steps`.
    steps : ndarray of shape (k, 3), int64
        Along one axis each; the way back is looked at too.

    Returns
    -------
    ndarray of shape (n, 2), int64
        Label of the core's pixel, and the other one.
    """
    first = _contacts(labels, *halo, steps, np.empty((0, 2), np.int64))
    found = np.empty((first, 2), np.int64)
    _contacts(labels, *halo, steps, found)
    return found


@njit(cache=True, nogil=True)
def _contacts(labels: Labels, hz: int, hy: int, hx: int, steps: Longs, found: Longs) -> int:
    planes, rows, columns = labels.shape
    n = 0
    for z in range(hz, planes - hz):
        for y in range(hy, rows - hy):
            for x in range(hx, columns - hx):
                own = labels[z, y, x]
                if own == 0:
                    continue
                for k in range(len(steps)):
                    for sign in (-1, 1):
                        other = labels[
                            z + sign * steps[k, 0], y + sign * steps[k, 1], x + sign * steps[k, 2]
                        ]
                        if other != 0 and other != own:
                            if n < len(found):
                                found[n, 0] = own
                                found[n, 1] = other
                            n += 1
    return n


def corners_2d(labels: Labels, halo: Halo, first: Halo) -> Longs:
    """Corners of the outlines of all labels in planes.

    Parameters
    ----------
    labels : ndarray of shape (Z, Y, X), uint32
        A window with a halo of at least 1 px in y and x.
    first : tuple of int
        As for `euler_sums`; that of z is not looked at.

    Returns
    -------
    ndarray of shape (n, 5), int64
        Label; z, y, x from the core's first pixel, of the pixel behind the corner; which of the
        pixels (-1, -1), (-1, 0), (0, -1), (0, 0) from there have the label, as bits 0 to 3.
    """
    size = _corners(labels, *halo, *first[1:], np.empty((0, 5), np.int64))
    found = np.empty((size, 5), np.int64)
    _corners(labels, *halo, *first[1:], found)
    return found


@njit(cache=True, nogil=True)
def _corners(labels: Labels, hz: int, hy: int, hx: int, ly: int, lx: int, found: Longs) -> int:
    planes, rows, columns = labels.shape
    near = np.empty(4, np.uint32)
    n = 0
    for z in range(hz, planes - hz):
        for y in range(hy, rows - hy + ly):
            for x in range(hx, columns - hx + lx):
                near[0] = labels[z, y - 1, x - 1]
                near[1] = labels[z, y - 1, x]
                near[2] = labels[z, y, x - 1]
                near[3] = labels[z, y, x]
                if near[0] == near[1] and near[2] == near[3]:
                    continue  # all the same, or a straight line
                if near[0] == near[2] and near[1] == near[3]:
                    continue
                for k in range(4):
                    own = near[k]
                    if own == 0:
                        continue
                    code = 0
                    seen = False
                    for i in range(4):
                        if near[i] == own:
                            seen = seen or i < k
                            code |= 1 << i
                    if seen or code in (3, 12, 5, 10):
                        continue
                    if n < len(found):
                        found[n, 0] = own
                        found[n, 1] = z - hz
                        found[n, 2] = y - hy
                        found[n, 3] = x - hx
                        found[n, 4] = code
                    n += 1
    return n
