"""Where the patches of one core meet those of its neighbours.

Patches are known here by the pixels that they have on the faces of their cores, as runs of
positions (see `pipeline.kernels.grow`). No grey values are needed.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.kernels.rows import with_room

Longs: TypeAlias = NDArray[np.int64]
Shape: TypeAlias = tuple[int, int, int]

ASKED = -2  # a pixel that is an entry already


def runs_of(faces: Longs) -> Longs:
    """Rows (number, position) as rows (number, start, stop) of positions that follow each other.

    Parameters
    ----------
    faces : ndarray of shape (m, 2), int64
        In any order, without repetition.

    Returns
    -------
    ndarray of shape (runs, 3), int64
        In the order of numbers, then positions.
    """
    rows = faces[np.lexsort((faces[:, 1], faces[:, 0]))]
    number, position = rows[:, 0], rows[:, 1]
    apart = (number[1:] != number[:-1]) | (position[1:] != position[:-1] + 1)
    first = np.flatnonzero(np.concatenate([np.ones(min(1, len(rows)), np.bool_), apart]))
    last = np.concatenate([first[1:], np.array([len(rows)])])[: len(first)] - 1
    return np.stack([number[first], position[first], position[last] + 1], axis=1)


def meet(
    own: Longs,
    shape: Shape,
    offsets: Longs,
    others: Longs,
    origins: Longs,
    shapes: Longs,
    other_offsets: Longs,
    steps: Longs,
) -> tuple[Longs, Longs]:
    """Follow the neighbours' patches across the faces of a core.

    Parameters
    ----------
    own : ndarray of shape (n, 4), int64
        Runs of the core: interval, patch, start, stop; in the order of intervals.
    shape : tuple of int
        Of the core (Z, Y, X).
    offsets : ndarray of shape (7,), int64
        Of its faces.
    others : ndarray of shape (m, 6), int64
        Runs of the neighbours: interval, patch, neighbour, own face that they lie behind, start,
        stop; in the order of intervals; each within the face that looks at the core.
    origins, shapes, other_offsets : ndarray of shape (k, 3), (k, 3) and (k, 7), int64
        First pixel, from the core's, shape and faces of each neighbour.
    steps : ndarray of shape (c, 3), int64
        See `neighbour_steps`.

    Returns
    -------
    entries : ndarray of shape (e, 2), int64
        Interval and raster index in the core of pixels beside a neighbour's patch that belong to
        no patch of the core; in the order of intervals.
    contacts : ndarray of shape (c, 3), int64
        Own patch, neighbour, its patch: those that touch, each once.
    """
    entries, contacts = _meet(own, shape, offsets, others, origins, shapes, other_offsets, steps)
    return entries, np.unique(contacts, axis=0)


@njit(cache=True, nogil=True)
def _meet(
    own: Longs,
    shape: Shape,
    offsets: Longs,
    others: Longs,
    origins: Longs,
    shapes: Longs,
    other_offsets: Longs,
    steps: Longs,
) -> tuple[Longs, Longs]:
    painted = np.full(offsets[6], -1, np.int64)
    stamp = np.full(offsets[6], -1, np.int64)
    entries = np.empty((64, 2), np.int64)
    contacts = np.empty((64, 3), np.int64)
    asked, touching, mine = 0, 0, 0
    current = np.int64(-1)
    for r in range(others.shape[0]):
        interval, patch, neighbour, face = others[r, 0], others[r, 1], others[r, 2], others[r, 3]
        if interval != current:
            current = interval
            while mine < own.shape[0] and own[mine, 0] <= current:
                if own[mine, 0] == current:
                    painted[own[mine, 2] : own[mine, 3]] = own[mine, 1]
                    stamp[own[mine, 2] : own[mine, 3]] = current
                mine += 1
        for position in range(others[r, 4], others[r, 5]):
            place = position - other_offsets[neighbour, face ^ 1]
            z, y, x = _pixel_of(place, face ^ 1, shapes[neighbour])
            z += origins[neighbour, 0]
            y += origins[neighbour, 1]
            x += origins[neighbour, 2]
            for k in range(steps.shape[0]):
                c, b, a = z + steps[k, 0], y + steps[k, 1], x + steps[k, 2]
                if c < 0 or c >= shape[0] or b < 0 or b >= shape[1] or a < 0 or a >= shape[2]:
                    continue
                at = offsets[face] + _place_on(face, c, b, a, shape)
                if stamp[at] != current:
                    stamp[at] = current
                    painted[at] = ASKED
                    entries = with_room(entries, asked, 1)
                    entries[asked, 0] = current
                    entries[asked, 1] = (c * shape[1] + b) * shape[2] + a
                    asked += 1
                elif painted[at] != ASKED:
                    last = touching - 1
                    if (
                        touching > 0
                        and contacts[last, 0] == painted[at]
                        and contacts[last, 1] == neighbour
                        and contacts[last, 2] == patch
                    ):
                        continue
                    contacts = with_room(contacts, touching, 1)
                    contacts[touching, 0] = painted[at]
                    contacts[touching, 1] = neighbour
                    contacts[touching, 2] = patch
                    touching += 1
    return entries[:asked].copy(), contacts[:touching].copy()


@njit(cache=True, nogil=True)
def _pixel_of(place: int, face: int, shape: Longs) -> tuple[int, int, int]:
    """Pixel, from the core's first, of a place on a face."""
    axis, side = face // 2, face % 2
    if axis == 0:
        return side * (shape[0] - 1), place // shape[2], place % shape[2]
    if axis == 1:
        return place // shape[2], side * (shape[1] - 1), place % shape[2]
    return place // shape[1], place % shape[1], side * (shape[2] - 1)


@njit(cache=True, nogil=True)
def _place_on(face: int, z: int, y: int, x: int, shape: Shape) -> int:
    """Place of a pixel on a face that it lies on."""
    if face < 2:
        return y * shape[2] + x
    if face < 4:
        return z * shape[2] + x
    return z * shape[1] + y
