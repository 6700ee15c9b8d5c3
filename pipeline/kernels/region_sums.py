"""Sums over regions and over the borders between them, in whole numbers.

Numbers of regions are those of the whole image and may be anything up to 2**63, so that sums go
to hash tables whose size follows from the regions in the window, not from the numbers.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.kernels.neighbours import neighbour_steps

Longs: TypeAlias = NDArray[np.int64]
Labels: TypeAlias = NDArray[np.integer[Any]]

#: Regions that the first table has room for; tables double when they are half full.
ROOM = 1024


def region_sums(labels: Labels, values: Longs) -> tuple[Longs, Longs, Longs, Longs]:
    """Pixels, sums and sums of squares of every region.

    Parameters
    ----------
    labels : ndarray of any shape, integer
        0 is no region.
    values : ndarray of shape (C, ...), int64
        Below 2**20 in size, so that the squares of 8e6 pixels still fit; regions of a whole
        image are added up outside.

    Returns
    -------
    number : ndarray of shape (n,), int64
        Ascending.
    count : ndarray of shape (n,), int64
    sums, squares : ndarray of shape (n, C), int64
    """
    flat = np.require(labels, None, ["C", "W"]).reshape(-1)
    table = np.require(values, np.int64, ["C", "W"]).reshape(len(values), -1)
    number, count, sums, squares = _region_sums(flat, table, ROOM)
    order = np.argsort(number)
    return number[order], count[order], sums[order], squares[order]


def border_sums(
    labels: Labels, core: tuple[slice, ...], values: Longs, connectivity: int
) -> tuple[Longs, Longs, Longs, Longs]:
    """Length of the border between every two regions, and sums along it.

    Every pair of neighbouring pixels of different regions counts for the core that holds the
    earlier pixel in raster order, so that pairs are counted once over all tiles.

    Parameters
    ----------
    labels : ndarray of shape (\\*window), integer
        0 is no region.
    core : tuple of slice
        The core in the window, which has a ring of 1 px around it but at the frame's border.
    values : ndarray of shape (\\*window), int64
    connectivity : int

    Returns
    -------
    a, b : ndarray of shape (m,), int64
        Regions, a < b, sorted.
    length : ndarray of shape (m,), int64
        Pairs of pixels.
    total : ndarray of shape (m,), int64
        Sum of the values of both pixels of all pairs.
    """
    steps = neighbour_steps(labels.ndim, connectivity)
    lead = 3 - labels.ndim
    shape = (1,) * lead + labels.shape
    bounds = np.array([(0, 1)] * lead + [(s.start, s.stop) for s in core], np.int64)
    a, b, length, total = _border_sums(
        np.require(labels, None, ["C", "W"]).reshape(shape),
        bounds,
        np.require(values, np.int64, ["C", "W"]).reshape(shape),
        steps[len(steps) // 2 :],
        ROOM,
    )
    order = np.lexsort((b, a))
    return a[order], b[order], length[order], total[order]


@njit(cache=True, nogil=True)
def _mixed(a: int, b: int) -> int:
    """A hash of two numbers, not negative."""
    found = np.uint64(a) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(b)
    found ^= found >> np.uint64(29)
    found *= np.uint64(0xBF58476D1CE4E5B9)
    found ^= found >> np.uint64(32)
    return int(found >> np.uint64(1))


@njit(cache=True, nogil=True)
def _rehashed(a: Longs, b: Longs, used: int, size: int) -> Longs:
    """A table of twice the size: places of the first `used` pairs, -1 where free."""
    slots = np.full(size, -1, np.int64)
    for k in range(used):
        slot = _mixed(a[k], b[k]) & (size - 1)
        while slots[slot] >= 0:
            slot = (slot + 1) & (size - 1)
        slots[slot] = k
    return slots


@njit(cache=True, nogil=True)
def _place(slots: Longs, a: Longs, b: Longs, used: int, x: int, y: int) -> int:
    """Place of a pair among the first `used`; `used` itself if it is new, and then noted."""
    mask = slots.size - 1
    slot = _mixed(x, y) & mask
    while slots[slot] >= 0:
        k = int(slots[slot])
        if a[k] == x and b[k] == y:
            return k
        slot = (slot + 1) & mask
    slots[slot] = used
    return used


@njit(cache=True, nogil=True)
def _longer(rows: Longs) -> Longs:
    more = np.zeros(2 * rows.size, np.int64)
    more[: rows.size] = rows
    return more


@njit(cache=True, nogil=True)
def _region_sums(labels: Labels, values: Longs, room: int) -> tuple[Longs, Longs, Longs, Longs]:
    channels = values.shape[0]
    number, nothing = np.zeros(room, np.int64), np.zeros(room, np.int64)
    count = np.zeros(room, np.int64)
    sums, squares = np.zeros((room, channels), np.int64), np.zeros((room, channels), np.int64)
    slots = np.full(4 * room, -1, np.int64)
    used = last = place = 0
    for i in range(labels.size):
        own = int(labels[i])
        if own == 0:
            continue
        if own != last:
            place = _place(slots, number, nothing, used, own, 0)
            last = own
            if place == used:
                number[used] = own
                used += 1
                if used == number.size:
                    number, nothing, count = _longer(number), _longer(nothing), _longer(count)
                    more = np.zeros((number.size, channels), np.int64)
                    more[:used] = sums
                    sums = more
                    again = np.zeros((number.size, channels), np.int64)
                    again[:used] = squares
                    squares = again
                    slots = _rehashed(number, nothing, used, 4 * number.size)
        count[place] += 1
        for c in range(channels):
            value = values[c, i]
            sums[place, c] += value
            squares[place, c] += value * value
    return number[:used], count[:used], sums[:used], squares[:used]


@njit(cache=True, nogil=True)
def _border_sums(
    labels: Labels, bounds: Longs, values: Longs, steps: Longs, room: int
) -> tuple[Longs, Longs, Longs, Longs]:
    planes, rows, columns = labels.shape
    a, b = np.zeros(room, np.int64), np.zeros(room, np.int64)
    length, total = np.zeros(room, np.int64), np.zeros(room, np.int64)
    slots = np.full(4 * room, -1, np.int64)
    used = last_a = last_b = place = 0
    for z in range(bounds[0, 0], bounds[0, 1]):
        for y in range(bounds[1, 0], bounds[1, 1]):
            for x in range(bounds[2, 0], bounds[2, 1]):
                own = int(labels[z, y, x])
                if own == 0:
                    continue
                for k in range(steps.shape[0]):
                    w, v, u = z + steps[k, 0], y + steps[k, 1], x + steps[k, 2]
                    if not (0 <= w < planes and 0 <= v < rows and 0 <= u < columns):
                        continue
                    other = int(labels[w, v, u])
                    if other == own or other == 0:
                        continue
                    low, high = min(own, other), max(own, other)
                    if low != last_a or high != last_b:
                        place = _place(slots, a, b, used, low, high)
                        last_a, last_b = low, high
                        if place == used:
                            a[used], b[used] = low, high
                            used += 1
                            if used == a.size:
                                a, b = _longer(a), _longer(b)
                                length, total = _longer(length), _longer(total)
                                slots = _rehashed(a, b, used, 4 * a.size)
                    length[place] += 1
                    total[place] += values[z, y, x] + values[w, v, u]
    return a[:used], b[:used], length[:used], total[:used]
