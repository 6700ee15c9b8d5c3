"""The canonical watershed: a flood whose result is defined without reference to a queue.

Definition
----------
Every pixel p has an altitude a(p). A source s has a given key K(s) = (level, hops). Entering p
from a neighbour with key (L, h) gives f((L, h), a(p)) = (a(p), 0) if a(p) > L, else (L, h + 1).
K(p) is the lexicographic minimum of f(K(q), a(p)) over the neighbours q of the same region. f
increases strictly, so the keys are unique. The predecessor of p is, among the neighbours q with
f(K(q), a(p)) = K(p), the one with the smallest K(q), ties broken by the smallest raster index. The
root of p is the source at the end of its predecessors.

Only the raster order of the pixels enters, so every crop that holds a region whole gives the same
result for it, and so does a fixed point over tiles that exchange the keys of their borders.

Algorithm
---------
Dijkstra's, in waves of equal key, one region after the other so that the working set stays in the
cache [1]_ [2]_. Because f is monotone, the first pixel that touches p settles K(p); only the
predecessor may still change, and only to a pixel of the same wave. Moves up go to a queue that is
ordered by altitude: buckets where the range of altitudes is small, else a binary heap. Sources
join the wave of their key.

References
----------
.. [1] Meyer, "Topographic distance and watershed lines", Signal Processing 38:113-125 (1994).
   DOI:10.1016/0165-1684(94)90060-4
.. [2] Dial, "Algorithm 360: shortest-path forest with topological ordering", Communications of
   the ACM 12:632-633 (1969). DOI:10.1145/363269.363610
"""

from __future__ import annotations

import itertools
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

Ints: TypeAlias = npt.NDArray[np.int32]
Longs: TypeAlias = npt.NDArray[np.int64]
Heights: TypeAlias = npt.NDArray[np.int32 | np.float32]

BUCKET_RANGE = 1 << 18  # wider: the bucket heads leave the cache and the heap is faster
FLOAT_FLIP = np.int32(0x7FFFFFFF)  # turns the bits of negative floats into their order
CHUNK_BITS = 6  # empty buckets are skipped 64 at a time

CHUNK_MASK = (1 << CHUNK_BITS) - 1
NOTHING = int(np.iinfo(np.int64).max)  # above every altitude

# In `Frame.wave`, where other numbers count the waves: what is below the current number is done.
BLOCKED, SOURCE, UNTOUCHED = -2, -1, np.iinfo(np.int32).max


class Flooded(NamedTuple):
    """The result for the window; each an ndarray of shape (N,), int32."""

    root: Ints
    level: Ints
    hops: Ints


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
        Predecessor, counted in the frame, until the pixel is settled; then the root, counted in
        the window.
    level, hops : ndarray of shape (N,), int32
        Key, once settled. Before, `hops` is the next pixel of the same bucket.
    """

    altitude: Ints
    wave: Ints
    root: Ints
    level: Ints
    hops: Ints


class Queue(NamedTuple):
    """Pixels that wait: sideways moves in `fifo`, upward moves in the buckets or in the heap.

    Parameters
    ----------
    fifo : ndarray of shape (N,), int32
        The current wave, then the next one.
    head : ndarray of shape (levels,), int32
        First pixel of each bucket, -1 where empty; of size 0 where the heap is used.
    busy : ndarray of shape (levels / 64 + 1,), int32
        Number of buckets in use, a chunk of 64.
    heap : ndarray of shape (N,), int64
        Altitude in the upper half, pixel in the lower; of size 0 where buckets are used.
    base : int
        Altitude of the first bucket.
    """

    fifo: Ints
    head: Ints
    busy: Ints
    heap: Longs
    base: int


def flood(
    altitude: Heights,
    region: Ints,
    sources: Longs,
    levels: Heights,
    hops: Ints,
    connectivity: int,
) -> tuple[Ints, Heights, Ints]:
    """Flood every region from its sources.

    Parameters
    ----------
    altitude : ndarray of shape (Y, X) or (Z, Y, X), int32 or float32
        Without NaN.
    region : ndarray of the same shape, int32
        The flood passes only between pixels of equal number > 0.
    sources : ndarray of shape (S,), int64
        Raster indices, each once. A source outside the regions is ignored.
    levels : ndarray of shape (S,), dtype of `altitude`
        Level of each source's key. For an ordinary marker, its altitude.
    hops : ndarray of shape (S,), int32
        Hops of each source's key. For an ordinary marker, 0.
    connectivity : int
        4 or 8 in two dimensions; 6, 18 or 26 in three.

    Returns
    -------
    root : ndarray of the same shape, int32
        Raster index of the source that each pixel belongs to; -1 where unreached or outside.
    level : ndarray of the same shape, dtype of `altitude`
    hops : ndarray of the same shape, int32
        The key of each pixel; both are 0 where `root` is -1.

    Raises
    ------
    ValueError
        Shapes, indices, dtypes or the connectivity do not fit, or an altitude is NaN.

    Notes
    -----
    The module's docstring has the definition. Ties are broken by raster index, so a flipped
    image may give a boundary pixel at equal keys to the other neighbour; keys are the same.
    """
    _check(altitude, region, sources, levels, hops)
    steps = neighbour_steps(altitude.ndim, connectivity)
    numbers = np.require(region, np.int32, ["C", "W"])
    own, tops = numbers.reshape(-1)[sources], ordered_int32(levels)
    order = np.lexsort((hops, tops, own))
    order = order[own[order] > 0]
    keys = np.stack([sources[order], tops[order], hops[order]], axis=1, dtype=np.int64)
    flooded = Flooded(
        np.full(altitude.size, -1, np.int32),
        np.zeros(altitude.size, np.int32),
        np.zeros(altitude.size, np.int32),
    )
    if order.size > 0:
        _flood_sorted(altitude, numbers, keys, own[order], steps, flooded)
    return (
        flooded.root.reshape(altitude.shape),
        flooded.level.view(altitude.dtype).reshape(altitude.shape),
        flooded.hops.reshape(altitude.shape),
    )


def _flood_sorted(
    altitude: Heights, region: Ints, keys: Longs, own: Ints, steps: Longs, flooded: Flooded
) -> None:
    """Lay out one frame for each region that has sources and flood them.

    `keys` is (S, 3): raster index, level and hops of each source, grouped by its region `own` and
    sorted by key.
    """
    shape = (1,) * (3 - altitude.ndim) + altitude.shape
    owners, first_key, owner = np.unique(own, return_index=True, return_inverse=True)
    rim = np.abs(steps).max(axis=0)
    runs, origin, sides = _frame_runs(region.reshape(-1), shape, owners, rim)
    capacity = int(sides.prod(axis=1).max())
    # A read-only array would be a second signature to compile, hence "W".
    bits = np.require(altitude, None, ["C", "W"]).view(np.int32).reshape(-1)
    _flood_regions(
        bits,
        np.int32(0) if altitude.dtype == np.int32 else FLOAT_FLIP,
        runs,
        np.append(first_key, own.size),
        keys,
        _places(keys[:, 0], shape, origin[owner], sides[owner]),
        (steps[:, 0] * sides[:, 1:2] + steps[:, 1]) * sides[:, 2:] + steps[:, 2],
        _new_frame(capacity),
        _new_queue(capacity, altitude, keys[:, 1]),
        flooded,
    )


def _frame_runs(
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
    # Sized for the worst case of runs of 1 px; pages that are not written cost nothing.
    first, last, owner, previous = (np.empty(region.size, np.int32) for _ in range(4))
    newest = np.full(owners.size, -1, np.int32)
    low = np.full((owners.size, 3), region.size, np.int64)
    high = np.zeros((owners.size, 3), np.int64)
    count = _find_runs(
        region, shape[1], shape[2], owners, first, last, owner, previous, newest, low, high
    )
    origin, sides = low - rim, high - low + 1 + 2 * rim
    own = owner[:count]
    place = _places(first[:count], shape, origin[own], sides[own])
    runs = Runs(first[:count], last[:count], place, previous[:count], newest)
    return runs, origin, sides


def _places(
    pixels: npt.NDArray[np.integer], shape: tuple[int, ...], origin: Longs, sides: Longs
) -> Ints:
    """Indices in their frames of pixels of the window. Both count in raster order."""
    row, x = np.divmod(pixels, shape[2])
    z, y = np.divmod(row, shape[1])
    frame_row = (z - origin[:, 0]) * sides[:, 1] + y - origin[:, 1]
    return (frame_row * sides[:, 2] + x - origin[:, 2]).astype(np.int32)


def neighbour_steps(ndim: int, connectivity: int) -> Longs:
    """Steps to the neighbours of a pixel, in raster order.

    Parameters
    ----------
    ndim : int
    connectivity : int
        4 or 8 for `ndim` 2; 6, 18 or 26 for `ndim` 3.

    Returns
    -------
    ndarray of shape (connectivity, 3), int64
        dz, dy, dx.

    Raises
    ------
    ValueError
        There is no such connectivity.
    """
    reach = {(2, 4): 1, (2, 8): 2, (3, 6): 1, (3, 18): 2, (3, 26): 3}.get((ndim, connectivity))
    if reach is None:
        raise ValueError(f"connectivity is {connectivity}; use 4, 8 in 2D and 6, 18, 26 in 3D")
    planes = (0,) if ndim == 2 else (-1, 0, 1)
    steps = itertools.product(planes, (-1, 0, 1), (-1, 0, 1))
    return np.array([s for s in steps if 0 < sum(map(abs, s)) <= reach], np.int64)


def ordered_int32(values: Heights) -> Ints:
    """Map int32 or float32 to int32 of the same order.

    Parameters
    ----------
    values : ndarray of any shape, int32 or float32

    Returns
    -------
    ndarray of the same shape, int32
        C-contiguous. `values` where they are int32. The bits of a float32 count upwards for
        positive numbers and downwards for negative ones, so the latter are flipped; 0.0 and
        -0.0 both become 0.

    Raises
    ------
    ValueError
        Another dtype, or NaN.
    """
    # A read-only array would be a second signature to compile, hence "W".
    if values.dtype == np.int32:
        return np.require(values, np.int32, ["C", "W"])
    if values.dtype != np.float32:
        raise ValueError(f"dtype is {values.dtype}; int32 and float32 are supported")
    if np.isnan(values).any():
        raise ValueError("NaN has no place in the order of the pixels; replace it before")
    bits = np.ascontiguousarray(values).view(np.int32)
    ordered: Ints = bits ^ ((bits >> 31) & FLOAT_FLIP)
    ordered[ordered == -1] = 0  # what -0.0 became
    return ordered


def _check(altitude: Heights, region: Ints, sources: Longs, levels: Heights, hops: Ints) -> None:
    if altitude.ndim not in (2, 3) or altitude.shape != region.shape:
        raise ValueError(f"altitude {altitude.shape}, region {region.shape}: not one 2D/3D shape")
    if altitude.size > np.iinfo(np.int32).max:
        raise ValueError(f"window has {altitude.size} px; raster indices are int32")
    if not sources.shape == levels.shape == hops.shape or sources.ndim != 1:
        raise ValueError("sources, levels and hops must be three lists of one length")
    if levels.dtype != altitude.dtype:
        raise ValueError(f"levels are {levels.dtype}, altitude is {altitude.dtype}")
    if altitude.dtype == np.float32 and np.isnan(altitude).any():
        raise ValueError("NaN has no place in the order of altitudes; replace it before")
    if altitude.dtype not in (np.int32, np.float32):
        raise ValueError(f"altitude is {altitude.dtype}; int32 and float32 are supported")
    if sources.size == 0:
        return
    if sources.min() < 0 or sources.max() >= altitude.size or hops.min() < 0:
        raise ValueError("a source lies outside the window, or its hops are negative")
    if np.unique(sources).size != sources.size:
        raise ValueError("a source is given twice; keep the one with the smaller key")


def _new_frame(size: int) -> Frame:
    altitude, root, level, hops = (np.empty(size, np.int32) for _ in range(4))
    return Frame(altitude, np.full(size, BLOCKED, np.int32), root, level, hops)


def _new_queue(size: int, altitude: Heights, levels: Longs) -> Queue:
    """Buckets where the range of integer altitudes allows them, else a heap."""
    fifo = np.empty(size, np.int32)
    base = span = 0
    if altitude.dtype == np.int32:
        base = min(int(altitude.min()), int(levels.min()))
        span = max(int(altitude.max()), int(levels.max())) - base + 1
    if not 0 < span <= BUCKET_RANGE:
        nothing = np.empty(0, np.int32)
        return Queue(fifo, nothing, nothing, np.empty(size, np.int64), base)
    head = np.full(span, -1, np.int32)
    busy = np.zeros((span >> CHUNK_BITS) + 1, np.int32)
    return Queue(fifo, head, busy, np.empty(0, np.int64), base)


@njit(cache=True, nogil=True)
def _find_runs(
    region: Ints,
    rows: int,
    width: int,
    owners: Ints,
    first: Ints,
    last: Ints,
    owner: Ints,
    previous: Ints,
    newest: Ints,
    low: Longs,
    high: Longs,
) -> int:
    """Fill the arrays of `Runs` and the bounding boxes; returns the number of runs."""
    count = 0
    for row in range(region.size // width):
        z, y = row // rows, row % rows
        begin, stop = row * width, (row + 1) * width
        while begin < stop:
            number = region[np.uintp(begin)]
            end = begin + 1
            while end < stop and region[np.uintp(end)] == number:
                end += 1
            k = _find(owners, number) if number > 0 else -1
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
    return count


@njit(cache=True, nogil=True)
def _find(owners: Ints, number: int) -> int:
    """Place of `number` in the sorted `owners`, or -1."""
    low, high = 0, owners.size
    while low < high:
        middle = (low + high) >> 1
        if owners[middle] < number:
            low = middle + 1
        else:
            high = middle
    return low if low < owners.size and owners[low] == number else -1


@njit(cache=True, nogil=True)
def _flood_regions(
    altitude: Ints,
    flip: np.int32,
    runs: Runs,
    first_key: Longs,
    keys: Longs,
    place: Ints,
    offsets: Longs,
    frame: Frame,
    queue: Queue,
    flooded: Flooded,
) -> None:
    """Flood the regions one by one.

    Region k has the sources ``keys[first_key[k] : first_key[k + 1]]``, sorted by key; the columns
    are raster index, level and hops. `place` is where they lie in the frame.
    """
    for k in range(offsets.shape[0]):
        _load(altitude, flip, runs, k, frame)
        for i in range(first_key[k], first_key[k + 1]):
            frame.wave[place[i]] = SOURCE
            frame.root[place[i]] = keys[i, 0]
        _flood_frame(keys, place, first_key[k], first_key[k + 1], offsets[k], frame, queue)
        _store(flip, runs, k, frame, flooded)


@njit(cache=True, nogil=True)
def _load(bits: Ints, flip: np.int32, runs: Runs, k: int, frame: Frame) -> None:
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
def _store(flip: np.int32, runs: Runs, k: int, frame: Frame, flooded: Flooded) -> None:
    """Copy what was reached of region k to the window and block the frame again."""
    _, wave, root, level, hops = frame
    i = runs.newest[k]
    while i >= 0:
        begin, place = runs.first[i], runs.place[i]
        for j in range(runs.last[i] - begin + 1):
            if wave[place + j] != UNTOUCHED:
                flooded.root[begin + j] = root[place + j]
                height = level[place + j]
                flooded.level[begin + j] = height ^ ((height >> 31) & flip)
                flooded.hops[begin + j] = hops[place + j]
            wave[place + j] = BLOCKED
        i = runs.previous[i]


@njit(cache=True, nogil=True)
def _flood_frame(
    keys: Longs, sources: Ints, source: int, last: int, offsets: Longs, frame: Frame, queue: Queue
) -> None:
    """Flood one region.

    At the top of the loop ``fifo[start:tail]`` holds the pixels of key (level, hop + 1), and
    `waiting` pixels are queued upwards, all above `level`, the lowest of them at `lowest`.
    """
    # Taken out of the tuples once: in the loop each access would count references.
    altitude, wave, root, level_out, hops_out = frame
    fifo, head, busy, heap, base = queue
    use_heap = head.size == 0
    start = tail = waiting = number = 0
    level, hop, lowest = NOTHING, 0, NOTHING
    while True:
        if start < tail:
            hop += 1
        else:
            level, hop = lowest, 0
        if source < last:
            top, h = keys[source, 1], keys[source, 2]
            if top < level or (top == level and h < hop):
                level, hop = top, h
        if level == NOTHING:
            return
        while source < last and keys[source, 1] == level and keys[source, 2] == hop:
            fifo[tail] = sources[source]
            tail += 1
            source += 1
        if hop == 0 and lowest == level:
            if use_heap:
                tail, waiting, lowest = _take_from_heap(fifo, heap, lowest, tail, waiting)
            else:
                tail, waiting, lowest = _take_from_buckets(
                    fifo, head, busy, hops_out, lowest, base, tail, waiting
                )
        number += 1
        end = tail
        for i in range(start, end):
            pixel = fifo[np.uintp(i)]
            q = np.uintp(pixel)
            if wave[q] != SOURCE:
                root[q] = root[np.uintp(root[q])]
            level_out[q] = level
            hops_out[q] = hop
            for j in range(offsets.size):
                p = np.uintp(pixel + offsets[j])
                w = wave[p]
                if w < number:
                    continue
                if w == UNTOUCHED:
                    wave[p] = number
                    root[p] = pixel
                    height = int(altitude[p])
                    if height > level:
                        waiting += 1
                        lowest = min(lowest, height)
                        if use_heap:
                            _heap_push(heap, waiting - 1, (height << 32) | np.int64(p))
                        else:
                            _bucket_push(head, busy, hops_out, np.uintp(height - base), p)
                    else:
                        fifo[np.uintp(tail)] = p
                        tail += 1
                elif pixel < root[p]:
                    root[p] = pixel
        start = end


@njit(cache=True, nogil=True)
def _take_from_heap(
    fifo: Ints, heap: Longs, lowest: int, tail: int, waiting: int
) -> tuple[int, int, int]:
    """Move the pixels at altitude `lowest` to the current wave and find the next altitude."""
    while waiting > 0 and heap[0] >> 32 == lowest:
        fifo[tail] = heap[0] & 0x7FFFFFFF
        tail += 1
        waiting -= 1
        _heap_pop(heap, waiting)
    return tail, waiting, heap[0] >> 32 if waiting > 0 else NOTHING


@njit(cache=True, nogil=True)
def _take_from_buckets(
    fifo: Ints,
    head: Ints,
    busy: Ints,
    chain: Ints,
    lowest: int,
    base: int,
    tail: int,
    waiting: int,
) -> tuple[int, int, int]:
    """The same for buckets."""
    bucket = lowest - base
    pixel = head[bucket]
    head[bucket] = -1
    busy[bucket >> CHUNK_BITS] -= 1
    while pixel >= 0:
        fifo[tail] = pixel
        tail += 1
        waiting -= 1
        pixel = chain[pixel]
    if waiting == 0:
        return tail, waiting, NOTHING
    while head[bucket] < 0:
        bucket += 1
        while bucket & CHUNK_MASK == 0 and busy[bucket >> CHUNK_BITS] == 0:
            bucket += CHUNK_MASK + 1
    return tail, waiting, bucket + base


@njit(cache=True, nogil=True)
def _bucket_push(head: Ints, busy: Ints, chain: Ints, bucket: np.uintp, pixel: np.uintp) -> None:
    """Put `pixel` in front of the chain of its bucket."""
    if head[bucket] < 0:
        busy[bucket >> np.uintp(CHUNK_BITS)] += 1
    chain[pixel] = head[bucket]
    head[bucket] = pixel


@njit(cache=True, nogil=True)
def _heap_push(heap: Longs, size: int, item: int) -> None:
    """Add `item` to the binary heap ``heap[:size]``."""
    place = size
    while place > 0:
        parent = (place - 1) >> 1
        if heap[parent] <= item:
            break
        heap[place] = heap[parent]
        place = parent
    heap[place] = item


@njit(cache=True, nogil=True)
def _heap_pop(heap: Longs, size: int) -> None:
    """Remove the least of ``heap[:size + 1]``, which leaves `size` items."""
    item = heap[size]
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= item:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = item
