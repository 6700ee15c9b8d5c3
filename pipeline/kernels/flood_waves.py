"""The flood of one region: Dijkstra's algorithm in waves of equal key."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.kernels.flood_frames import SOURCE, UNTOUCHED, Frame

Ints: TypeAlias = npt.NDArray[np.int32]
Longs: TypeAlias = npt.NDArray[np.int64]
Heights: TypeAlias = npt.NDArray[np.int32 | np.float32]

BUCKET_RANGE = 1 << 18  # wider: the bucket heads leave the cache and the heap is faster
CHUNK_BITS = 6  # empty buckets are skipped 64 at a time

CHUNK_MASK = (1 << CHUNK_BITS) - 1
NOTHING = int(np.iinfo(np.int64).max)  # above every altitude


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


def new_queue(size: int, altitude: Heights, levels: Ints) -> Queue:
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
def flood_frame(
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
