"""Layout of a flood: the runs of every region, and the frame that one region is flooded in."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.kernels.lowering import HOPS_BITS

Ints: TypeAlias = npt.NDArray[np.int32]
Longs: TypeAlias = npt.NDArray[np.int64]

# In `Frame.wave`, where other numbers count the waves: what is below the current number is done.
BLOCKED, SOURCE, UNTOUCHED = -2, -1, np.iinfo(np.int32).max


class Runs(NamedTuple):
    """Stretches of one region number in a row, chained region by region.

    Parameters
    ----------
    first, last : ndarray of shape (R,), int32
        Raster indices of the two ends, inclusive.
    place : ndarray of shape (R,), int32
        Index of the first pixel in the frame of the run's region.
    previous : ndarray of shape (R,), int32
        An earlier run of the same region, or -1.
    newest : ndarray of shape (K,), int32
        Last run of each region, or -1.
    """

    first: Ints
    last: Ints
    place: Ints
    previous: Ints
    newest: Ints


class Frame(NamedTuple):
    """Scratch for one region: its bounding box with a rim of 1 px, flattened.

    Between two regions every pixel of `wave` is BLOCKED, so that the rim and other regions stop
    the flood without a test of coordinates or numbers.

    Parameters
    ----------
    altitude : ndarray of shape (N,), int32
    wave : ndarray of shape (N,), int32
        BLOCKED, SOURCE, UNTOUCHED, or the number of the wave that first touched the pixel.
    root : ndarray of shape (N,), int32
        Predecessor, counted in the frame, until the pixel is settled; then its source's number.
    level, hops : ndarray of shape (N,), int32
        Key, once settled. Before, `hops` is the next pixel of the same bucket.
    """

    altitude: Ints
    wave: Ints
    root: Ints
    level: Ints
    hops: Ints


def frame_runs(
    region: Ints, shape: tuple[int, ...], owners: Ints, rim: Longs
) -> tuple[Runs, Longs, Longs]:
    """Find the runs of the regions `owners` and lay out the frame of each region.

    Returns
    -------
    runs : Runs
    origin : ndarray of shape (K, 3), int64
        z, y, x of the first pixel of each frame, counted in the window; -1 is possible.
    sides : ndarray of shape (K, 3), int64
        Z, Y, X of each frame.
    """
    owner_of = np.full(max(int(region.max(initial=0)), int(owners.max())) + 1, -1, np.int32)
    owner_of[owners] = np.arange(owners.size, dtype=np.int32)
    count = _count_runs(region, shape[2], owner_of)
    first, last, owner, previous = (np.empty(count, np.int32) for _ in range(4))
    newest = np.full(owners.size, -1, np.int32)
    low = np.full((owners.size, 3), region.size, np.int64)
    high = np.zeros((owners.size, 3), np.int64)
    _find_runs(
        region, shape[1], shape[2], owner_of, first, last, owner, previous, newest, low, high
    )
    origin, sides = low - rim, high - low + 1 + 2 * rim
    place = places(first, shape, origin[owner], sides[owner])
    return Runs(first, last, place, previous, newest), origin, sides


def places(
    pixels: npt.NDArray[np.integer], shape: tuple[int, ...], origin: Longs, sides: Longs
) -> Ints:
    """Indices in their frames of pixels of the window. Both count in raster order."""
    row, x = np.divmod(pixels, shape[2])
    z, y = np.divmod(row, shape[1])
    frame_row = (z - origin[:, 0]) * sides[:, 1] + y - origin[:, 1]
    return (frame_row * sides[:, 2] + x - origin[:, 2]).astype(np.int32)


def new_frame(size: int) -> Frame:
    altitude, root, level, hops = (np.empty(size, np.int32) for _ in range(4))
    return Frame(altitude, np.full(size, BLOCKED, np.int32), root, level, hops)


@njit(cache=True, nogil=True)
def _count_runs(region: Ints, width: int, owner_of: Ints) -> int:
    """Number of runs of the regions that have an owner."""
    count = 0
    for begin in range(0, region.size, width):
        before = np.int32(0)
        for i in range(begin, begin + width):
            number = region[np.uintp(i)]
            if number != before and number > 0 and owner_of[np.uintp(number)] >= 0:
                count += 1
            before = number
    return count


@njit(cache=True, nogil=True)
def _find_runs(
    region: Ints,
    rows: int,
    width: int,
    owner_of: Ints,
    first: Ints,
    last: Ints,
    owner: Ints,
    previous: Ints,
    newest: Ints,
    low: Longs,
    high: Longs,
) -> None:
    """Fill the arrays of `Runs` and the bounding boxes.

    `owner_of` is the place in `newest` of each region number, -1 for regions that nobody floods.
    """
    count = 0
    for row in range(region.size // width):
        z, y = row // rows, row % rows
        begin, stop = row * width, (row + 1) * width
        while begin < stop:
            number = region[np.uintp(begin)]
            end = begin + 1
            while end < stop and region[np.uintp(end)] == number:
                end += 1
            k = owner_of[np.uintp(number)] if number > 0 else -1
            if k >= 0:
                first[count], last[count], owner[count] = begin, end - 1, k
                previous[count], newest[k] = newest[k], count
                low[k, 0], high[k, 0] = min(low[k, 0], z), max(high[k, 0], z)
                low[k, 1], high[k, 1] = min(low[k, 1], y), max(high[k, 1], y)
                x = begin - row * width
                low[k, 2] = min(low[k, 2], x)
                high[k, 2] = max(high[k, 2], x + end - 1 - begin)
                count += 1
            begin = end


@njit(cache=True, nogil=True)
def load(bits: Ints, flip: np.int32, runs: Runs, k: int, frame: Frame) -> None:
    """Copy region k into the frame and open it to the flood.

    `flip` is 0 for int32 and FLOAT_FLIP for the bits of float32, see `ordered_int32`; here only
    the pixels that are flooded pay for it.
    """
    local, wave = frame.altitude, frame.wave
    i = runs.newest[k]
    while i >= 0:
        begin, place = runs.first[i], runs.place[i]
        for j in range(runs.last[i] - begin + 1):
            height = bits[begin + j] ^ ((bits[begin + j] >> 31) & flip)
            local[place + j] = 0 if flip != 0 and height == -1 else height
            wave[place + j] = UNTOUCHED
        i = runs.previous[i]


@njit(cache=True, nogil=True)
def store(runs: Runs, k: int, frame: Frame, out: Ints, keys_out: Longs) -> None:
    """Copy what was reached of region k to the window and block the frame again."""
    wave, root, level, hops = frame.wave, frame.root, frame.level, frame.hops
    roots_wanted, keys_wanted = out.size > 0, keys_out.size > 0
    i = runs.newest[k]
    while i >= 0:
        begin, place = runs.first[i], runs.place[i]
        for j in range(runs.last[i] - begin + 1):
            if wave[place + j] != UNTOUCHED:
                if roots_wanted:
                    out[begin + j] = root[place + j]
                if keys_wanted:
                    key = (np.int64(level[place + j]) << HOPS_BITS) + hops[place + j]
                    keys_out[begin + j] = key
            wave[place + j] = BLOCKED
        i = runs.previous[i]
