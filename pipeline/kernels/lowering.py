"""Keys of a flood that has begun: letting them fall, and following them back to their sources.

Every pixel has an altitude a and a key K, the pair (level, hops) in one number. Entering a pixel
from a neighbour with key (L, h) gives f = (a, 0) if a > L, else (L, h + climb). With `climb` 1 that
is the watershed of `pipeline.kernels.flood`; with 0 hops stay 0, and keys are the lowest levels
that a pixel is reached at: a reconstruction. Keys that are nowhere above f(K(q), a(p)) of a
neighbour q are a fixed point; f never falls below K, so there is one fixed point below given keys,
and the order in which pixels are lowered does not matter.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.box import Box
from pipeline.kernels.neighbours import neighbour_steps

Ints: TypeAlias = npt.NDArray[np.int32]
Longs: TypeAlias = npt.NDArray[np.int64]

#: Hops take the lower bits of a key.
HOPS_BITS = 31
#: Key of a pixel that no flood has come to.
UNREACHED = int(np.iinfo(np.int64).max)


def keys_at(level: Ints) -> Longs:
    """Keys of levels, as `ordered_int32` gives them, after no hop."""
    return level.astype(np.int64) << HOPS_BITS


def levels_of(keys: Longs) -> Ints:
    """Levels of keys; undefined for those of pixels that were not reached."""
    return (keys >> HOPS_BITS).astype(np.int32)


def lower(
    keys: Longs,
    altitude: Ints,
    region: Ints,
    inner: Box,
    connectivity: int,
    begun: Longs,
    climb: int,
) -> None:
    """Let keys fall where some of them have fallen.

    Parameters
    ----------
    keys : ndarray of shape (Y, X) or (Z, Y, X), int64
        A fixed point but for the pixels `begun`; changed in place.
    altitude : ndarray of the same shape, int32
        As `ordered_int32` gives it.
    region : ndarray of the same shape, int32
        Keys pass only between pixels of equal number > 0.
    inner : Box
        The part of the window in which keys may change.
    connectivity : int
        4 or 8 in two dimensions; 6, 18 or 26 in three.
    begun : ndarray of shape (n,), int64
        Raster indices of pixels whose keys have fallen.
    climb : {0, 1}
        What a hop counts.
    """
    shape, low, high = _in_three(keys.shape, inner)
    _lower(
        keys.reshape(-1),
        np.require(altitude, np.int32, ["C", "W"]).reshape(-1),
        np.require(region, np.int32, ["C", "W"]).reshape(-1),
        shape,
        low,
        high,
        neighbour_steps(keys.ndim, connectivity),
        np.require(begun, np.int64, ["C", "W"]),
        climb,
    )


def trace(
    keys: Longs, altitude: Ints, region: Ints, sources: Longs, inner: Box, connectivity: int
) -> Ints:
    """Follow the keys of a finished flood, `climb` 1, to the sources.

    Parameters
    ----------
    keys, altitude, region, connectivity
        As for `lower`.
    sources : ndarray of shape (S,), int64
        Raster indices, each once.
    inner : Box
        The part of the window that is wanted. Its pixels have all their neighbours in the window,
        or none there in the image.

    Returns
    -------
    ndarray of the same shape, int32
        Place, counted from 1, in `sources` of the one that each pixel belongs to, as
        `pipeline.kernels.flood.flood` has it; 0 where unreached, and outside `inner` but for the
        sources.
    """
    shape, low, high = _in_three(keys.shape, inner)
    root = np.zeros(keys.size, np.int32)
    root[sources] = -np.arange(1, len(sources) + 1)
    _trace(
        root,
        keys.reshape(-1),
        np.require(altitude, np.int32, ["C", "W"]).reshape(-1),
        np.require(region, np.int32, ["C", "W"]).reshape(-1),
        shape,
        low,
        high,
        neighbour_steps(keys.ndim, connectivity),
    )
    found: Ints = np.negative(root, out=root).reshape(keys.shape)
    return found


def _in_three(shape: tuple[int, ...], inner: Box) -> tuple[Longs, Longs, Longs]:
    """Shape of a window and both ends of a box in it, along z, y, x."""
    flat = 3 - len(shape)
    return (
        np.array((1,) * flat + shape, np.int64),
        np.array((0,) * flat + inner.start, np.int64),
        np.array((1,) * flat + inner.stop, np.int64),
    )


@njit(cache=True, nogil=True)
def _entered(key: int, altitude: int, climb: int) -> int:
    return altitude << HOPS_BITS if altitude > key >> HOPS_BITS else key + climb


@njit(cache=True, nogil=True)
def _lower(
    keys: Longs,
    altitude: Ints,
    region: Ints,
    shape: Longs,
    low: Longs,
    high: Longs,
    steps: Longs,
    begun: Longs,
    climb: int,
) -> None:
    """Dijkstra's algorithm from the pixels `begun`."""
    planes_px, rows_px = shape[1] * shape[2], shape[2]
    heap = np.empty(max(1024, begun.size), np.int64)
    pixel = np.empty(heap.size, np.int64)
    size = 0
    for i in range(begun.size):
        _push(heap, pixel, size, keys[begun[i]], begun[i])
        size += 1
    while size > 0:
        key, p = heap[0], pixel[0]
        size -= 1
        _pop(heap, pixel, size)
        if key != keys[p]:
            continue  # it has fallen further since
        z, rest = p // planes_px, p % planes_px
        y, x = rest // rows_px, rest % rows_px
        for k in range(steps.shape[0]):
            c, b, a = z + steps[k, 0], y + steps[k, 1], x + steps[k, 2]
            if not (low[0] <= c < high[0] and low[1] <= b < high[1] and low[2] <= a < high[2]):
                continue
            q = c * planes_px + b * rows_px + a
            if region[q] != region[p]:
                continue
            offered = _entered(key, np.int64(altitude[q]), climb)
            if offered < keys[q]:
                keys[q] = offered
                if size == heap.size:
                    heap = np.append(heap, np.empty(size, np.int64))
                    pixel = np.append(pixel, np.empty(size, np.int64))
                _push(heap, pixel, size, offered, q)
                size += 1


@njit(cache=True, nogil=True)
def _push(heap: Longs, pixel: Longs, size: int, key: int, p: int) -> None:
    """Add a key to the binary heap ``heap[:size]``."""
    place = size
    while place > 0:
        parent = (place - 1) >> 1
        if heap[parent] <= key:
            break
        heap[place], pixel[place] = heap[parent], pixel[parent]
        place = parent
    heap[place], pixel[place] = key, p


@njit(cache=True, nogil=True)
def _pop(heap: Longs, pixel: Longs, size: int) -> None:
    """Remove the least of ``heap[:size + 1]``, which leaves `size` keys."""
    key, p = heap[size], pixel[size]
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[place], pixel[place] = heap[child], pixel[child]
        place = child
    heap[place], pixel[place] = key, p


@njit(cache=True, nogil=True)
def _trace(
    root: Ints,
    keys: Longs,
    altitude: Ints,
    region: Ints,
    shape: Longs,
    low: Longs,
    high: Longs,
    steps: Longs,
) -> None:
    """Write the predecessor of each pixel, counted from 1, to `root`; then follow them.

    Sources have numbers below 0 there.
    """
    planes_px, rows_px = shape[1] * shape[2], shape[2]
    for z in range(low[0], high[0]):
        for y in range(low[1], high[1]):
            for x in range(low[2], high[2]):
                p = z * planes_px + y * rows_px + x
                key = keys[p]
                if root[p] != 0 or region[p] <= 0 or key == UNREACHED:
                    continue
                best = key  # keys ascend strictly along a path
                for k in range(steps.shape[0]):
                    c, b, a = z + steps[k, 0], y + steps[k, 1], x + steps[k, 2]
                    if not (0 <= c < shape[0] and 0 <= b < shape[1] and 0 <= a < shape[2]):
                        continue
                    q = c * planes_px + b * rows_px + a
                    # Steps are in raster order, so the first of equal keys stays.
                    if region[q] != region[p] or keys[q] >= best:
                        continue
                    if _entered(keys[q], np.int64(altitude[p]), 1) == key:
                        best = keys[q]
                        root[p] = np.int32(q + 1)
    for p in range(root.size):
        last = p
        while root[last] > 0:
            last = root[last] - 1
        found = root[last]
        here = p
        while root[here] > 0:
            after = root[here] - 1
            root[here] = found
            here = after
