"""Sums over regions and over the borders between them, in whole numbers.

Numbers of regions are those of the whole image and may be anything up to 2**63, so that sums go
to hash tables whose size follows from the regions in the window, not from the numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.kernels.neighbours import neighbour_steps

Longs: TypeAlias = NDArray[np.int64]
Labels: TypeAlias = NDArray[np.integer[Any]]

#: Regions that the first table has room for beyond those of one stretch of pixels.
ROOM = 1024
#: Pixels between two looks at how full the table of regions is.
STRETCH = 4096
#: Slots of the hash table, for each entry that a table has room for.
SLOTS = 4


def region_sums(labels: Labels, values: Labels) -> tuple[Longs, Longs, Longs, Longs]:
    """Pixels, sums and sums of squares of every region.

    Parameters
    ----------
    labels : ndarray of any shape, integer
        0 is no region.
    values : ndarray of shape (C, ...), uint8, uint16 or int64
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
    pixels = np.require(values, None, ["C", "W"]).reshape(len(values), -1)
    table = new_table(ROOM + STRETCH, 1 + 2 * len(values))
    begun = 0
    while begun < flat.size:
        begun = _add_regions(flat, pixels, begun, *table)
        if begun < flat.size:
            table = larger_table(table)
    number, _, rows = _content(table)
    count, sums, squares = np.split(rows, (1, 1 + len(values)), axis=1)
    return number, count[:, 0], sums, squares


def border_sums(
    labels: Labels,
    core: tuple[slice, ...],
    values: NDArray[Any],
    connectivity: int,
    offset: float = 0.0,
    step: float = 1.0,
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
    values : ndarray of shape (\\*window), real
    connectivity : int
    offset, step : float
        Values count as whole steps from the offset, rounded to the nearest.

    Returns
    -------
    a, b : ndarray of shape (m,), int64
        Regions, a < b, sorted.
    length : ndarray of shape (m,), int64
        Pairs of pixels.
    total : ndarray of shape (m,), int64
        Sum of the values of both pixels of all pairs, in steps.
    """
    steps = neighbour_steps(labels.ndim, connectivity)
    lead = 3 - labels.ndim
    shape = (1,) * lead + labels.shape
    bounds = np.array([(0, 1)] * lead + [(s.start, s.stop) for s in core], np.int64)
    regions = np.require(labels, None, ["C", "W"]).reshape(shape)
    pixels = np.require(values, None, ["C", "W"]).reshape(shape)
    table = new_table(ROOM + len(steps) * shape[2], 2)
    begun, rows = 0, int(np.prod(bounds[:2, 1] - bounds[:2, 0]))
    while begun < rows:
        begun = _add_borders(
            regions, bounds, pixels, offset, step, steps[len(steps) // 2 :], begun, *table
        )
        if begun < rows:
            table = larger_table(table)
    a, b, found = _content(table)
    return a, b, found[:, 0], found[:, 1]


class Table(NamedTuple):
    """Rows of sums by a pair of numbers.

    Parameters
    ----------
    a, b : ndarray of shape (room,), int64
    rows : ndarray of shape (room, columns), int64
    slots : ndarray of shape (SLOTS * room,), int64
        Hash table of places, -1 where free. A power of two.
    used : ndarray of shape (1,), int64
        Rows in use.
    """

    a: Longs
    b: Longs
    rows: Longs
    slots: Longs
    used: Longs


def new_table(room: int, columns: int) -> Table:
    """A table for at least so many rows."""
    size = 1 << (room - 1).bit_length()
    a, b, used = np.zeros(size, np.int64), np.zeros(size, np.int64), np.zeros(1, np.int64)
    rows = np.zeros((size, columns), np.int64)
    return Table(a, b, rows, np.full(SLOTS * size, -1, np.int64), used)


def larger_table(table: Table) -> Table:
    """The same with twice the room."""
    used = int(table.used[0])
    more = new_table(2 * len(table.a), table.rows.shape[1])
    more.a[:used], more.b[:used] = table.a[:used], table.b[:used]
    more.rows[:used], more.used[0] = table.rows[:used], used
    _rehash(more.slots, more.a, more.b, used)
    return more


def _content(table: Table) -> tuple[Longs, Longs, Longs]:
    """The rows in use, in the order of their numbers."""
    used = int(table.used[0])
    a, b, rows = table.a[:used], table.b[:used], table.rows[:used]
    order = np.lexsort((b, a))
    return a[order], b[order], rows[order]


@njit(cache=True, nogil=True)
def _mixed(a: int, b: int) -> int:
    """A hash of two numbers, not negative."""
    found = np.uint64(a) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(b)
    found ^= found >> np.uint64(29)
    found *= np.uint64(0xBF58476D1CE4E5B9)
    found ^= found >> np.uint64(32)
    return int(found >> np.uint64(1))


@njit(cache=True, nogil=True)
def _rehash(slots: Longs, a: Longs, b: Longs, used: int) -> None:
    """Fill an empty hash table with the places of the first `used` pairs."""
    for k in range(used):
        slot = _mixed(a[k], b[k]) & (slots.size - 1)
        while slots[slot] >= 0:
            slot = (slot + 1) & (slots.size - 1)
        slots[slot] = k


@njit(cache=True, nogil=True)
def _place(slots: Longs, a: Longs, b: Longs, used: Longs, x: int, y: int) -> int:
    """Place of a pair, which is noted if it is new."""
    mask = slots.size - 1
    slot = _mixed(x, y) & mask
    while slots[slot] >= 0:
        k = int(slots[slot])
        if a[k] == x and b[k] == y:
            return k
        slot = (slot + 1) & mask
    new = int(used[0])
    slots[slot] = new
    a[new], b[new] = x, y
    used[0] = new + 1
    return new


@njit(cache=True, nogil=True)
def _add_regions(
    labels: Labels,
    values: Labels,
    begun: int,
    a: Longs,
    b: Longs,
    rows: Longs,
    slots: Longs,
    used: Longs,
) -> int:
    """Add pixels from `begun` on, until the table could be too small for the next stretch.

    Rows are pixels, sums and sums of squares. Returns where it ended.
    """
    channels = values.shape[0]
    i = begun
    while i < labels.size and used[0] + STRETCH <= a.size:
        stop = min(i + STRETCH, labels.size)
        while i < stop:
            own = labels[i]
            j = i + 1
            while j < stop and labels[j] == own:
                j += 1
            if own != 0:
                place = _place(slots, a, b, used, int(own), 0)
                rows[place, 0] += j - i
                for c in range(channels):
                    total = squares = np.int64(0)
                    for k in range(i, j):
                        value = np.int64(values[c, k])
                        total += value
                        squares += value * value
                    rows[place, 1 + c] += total
                    rows[place, 1 + channels + c] += squares
            i = j
    return i


@njit(cache=True, nogil=True)
def _add_borders(
    labels: Labels,
    bounds: Longs,
    values: NDArray[Any],
    offset: float,
    size: float,
    steps: Longs,
    begun: int,
    a: Longs,
    b: Longs,
    rows: Longs,
    slots: Longs,
    used: Longs,
) -> int:
    """Add rows of pixels from `begun` on, until the table could be too small for the next one.

    Rows of the table are length and sum. Returns where it ended.
    """
    planes, lines, columns = labels.shape
    high = bounds[1, 1] - bounds[1, 0]
    row = begun
    while row < (bounds[0, 1] - bounds[0, 0]) * high:
        if used[0] + steps.shape[0] * columns > a.size:
            break
        z, y = bounds[0, 0] + row // high, bounds[1, 0] + row % high
        row += 1
        for k in range(steps.shape[0]):
            w, v, step = z + steps[k, 0], y + steps[k, 1], steps[k, 2]
            if not (0 <= w < planes and 0 <= v < lines):
                continue
            # Row against row: most pixels have neighbours of their own region.
            here, there = labels[z, y], labels[w, v]
            near, far = values[z, y], values[w, v]
            last_own = last_other = here[0]
            place = np.int64(-1)
            first, last = max(bounds[2, 0], -step), min(bounds[2, 1], columns - step)
            for x in range(first, last):
                own, other = here[x], there[x + step]
                if own == other or own == 0 or other == 0:
                    continue
                if place < 0 or own != last_own or other != last_other:
                    one, two = int(own), int(other)
                    place = _place(slots, a, b, used, min(one, two), max(one, two))
                    last_own, last_other = own, other
                rows[place, 0] += 1
                rows[place, 1] += _step_of(np.float64(near[x]), offset, size)
                rows[place, 1] += _step_of(np.float64(far[x + step]), offset, size)
    return row


@njit(cache=True, nogil=True)
def _step_of(value: float, offset: float, size: float) -> int:
    return int(np.rint((value - offset) / size))
