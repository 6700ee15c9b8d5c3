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

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.kernels.flood_frames import (
    SOURCE,
    Frame,
    Runs,
    frame_runs,
    load,
    new_frame,
    places,
    store,
)
from pipeline.kernels.flood_waves import Queue, flood_frame, new_queue
from pipeline.kernels.lowering import UNREACHED
from pipeline.kernels.neighbours import neighbour_steps
from pipeline.kernels.ordering import FLOAT_FLIP, ordered_int32

Ints: TypeAlias = npt.NDArray[np.int32]
Longs: TypeAlias = npt.NDArray[np.int64]
Heights: TypeAlias = npt.NDArray[np.int32 | np.float32]


class Sources(NamedTuple):
    """Sources of a flood.

    Parameters
    ----------
    pixel : ndarray of shape (S,), int64
        Raster indices, each once. A source outside the regions is ignored.
    level : ndarray of shape (S,), int32 or float32
        Level of each source's key. For an ordinary marker, its altitude.
    hops : ndarray of shape (S,), int32
        Hops of each source's key. For an ordinary marker, 0.
    """

    pixel: Longs
    level: Heights
    hops: Ints

    @classmethod
    def markers(cls, pixel: Longs, altitude: Heights) -> Sources:
        """Ordinary markers in a window."""
        return cls(pixel, altitude.reshape(-1)[pixel], np.zeros(pixel.size, np.int32))


def flood(altitude: Heights, region: Ints, sources: Sources, connectivity: int) -> Ints:
    """Flood every region from its sources.

    Parameters
    ----------
    altitude : ndarray of shape (Y, X) or (Z, Y, X), int32 or float32
        Without NaN.
    region : ndarray of the same shape, int32
        The flood passes only between pixels of equal number > 0.
    sources : Sources
        Levels of the dtype of `altitude`.
    connectivity : int
        4 or 8 in two dimensions; 6, 18 or 26 in three.

    Returns
    -------
    ndarray of the same shape, int32
        Place, counted from 1, in `sources` of the one that each pixel belongs to; 0 where
        unreached or outside.

    Raises
    ------
    ValueError
        Shapes, indices, dtypes or the connectivity do not fit, or an altitude is NaN.

    Notes
    -----
    The module's docstring has the definition. Ties are broken by raster index, so a flipped
    image may give a boundary pixel at equal keys to the other neighbour; keys are the same.
    """
    number = np.zeros(altitude.shape, np.int32)
    _flood_into(number, altitude, region, sources, connectivity, np.empty(0, np.int64))
    return number


def flood_keys(altitude: Heights, region: Ints, sources: Sources, connectivity: int) -> Longs:
    """Flood every region from its sources; the keys are wanted.

    Parameters
    ----------
    altitude, region, sources, connectivity
        As for `flood`.

    Returns
    -------
    ndarray of the same shape, int64
        See `pipeline.kernels.lowering`.

    Raises
    ------
    ValueError
        As for `flood`.
    """
    keys = np.full(altitude.shape, UNREACHED, np.int64)
    _flood_into(np.empty(0, np.int32), altitude, region, sources, connectivity, keys)
    return keys


def _flood_into(
    out: Ints,
    altitude: Heights,
    region: Ints,
    sources: Sources,
    connectivity: int,
    keys_out: Longs,
) -> None:
    """Write the place of each pixel's source to `out`, and its key to `keys_out`.

    Nothing is written to one that has no elements. Lays out one frame for each region that has
    sources.
    """
    _check(altitude, region, sources)
    steps = neighbour_steps(altitude.ndim, connectivity)
    # A read-only array would be a second signature to compile, hence "W".
    numbers = np.require(region, np.int32, ["C", "W"]).reshape(-1)
    if numbers.max(initial=0) > numbers.size:
        # A table of all numbers would take more memory than the window.
        known = np.unique(numbers[numbers > 0])
        numbers = np.where(numbers > 0, np.searchsorted(known, numbers) + 1, 0).astype(np.int32)
    bits = np.require(altitude, None, ["C", "W"]).view(np.int32).reshape(-1)
    own, tops = numbers[sources.pixel], ordered_int32(sources.level)
    order = np.lexsort((sources.hops, tops, own))
    order = order[own[order] > 0]
    if order.size == 0:
        return
    shape = (1,) * (3 - altitude.ndim) + altitude.shape
    owners, first_key, owner = np.unique(own[order], return_index=True, return_inverse=True)
    rim = np.abs(steps).max(axis=0)
    runs, origin, sides = frame_runs(numbers, shape, owners, rim)
    capacity = int(sides.prod(axis=1).max())
    _flood_regions(
        bits,
        np.int32(0) if altitude.dtype == np.int32 else FLOAT_FLIP,
        runs,
        np.append(first_key, order.size),
        np.stack([order + 1, tops[order], sources.hops[order]], axis=1, dtype=np.int64),
        places(sources.pixel[order], shape, origin[owner], sides[owner]),
        (steps[:, 0] * sides[:, 1:2] + steps[:, 1]) * sides[:, 2:] + steps[:, 2],
        new_frame(capacity),
        new_queue(capacity, altitude, tops),
        out.reshape(-1),
        keys_out.reshape(-1),
    )


def _check(altitude: Heights, region: Ints, sources: Sources) -> None:
    pixel, level, hops = sources
    if altitude.ndim not in (2, 3) or altitude.shape != region.shape:
        raise ValueError(f"altitude {altitude.shape}, region {region.shape}: not one 2D/3D shape")
    if altitude.size > np.iinfo(np.int32).max:
        raise ValueError(f"window has {altitude.size} px; raster indices are int32")
    if not pixel.shape == level.shape == hops.shape or pixel.ndim != 1:
        raise ValueError("pixels, levels and hops must be three lists of one length")
    if level.dtype != altitude.dtype:
        raise ValueError(f"levels are {level.dtype}, altitude is {altitude.dtype}")
    if altitude.dtype == np.float32 and np.isnan(altitude).any():
        raise ValueError("NaN has no place in the order of altitudes; replace it before")
    if altitude.dtype not in (np.int32, np.float32):
        raise ValueError(f"altitude is {altitude.dtype}; int32 and float32 are supported")
    if pixel.size == 0:
        return
    if pixel.min() < 0 or pixel.max() >= altitude.size or hops.min() < 0:
        raise ValueError("a source lies outside the window, or its hops are negative")
    if np.unique(pixel).size != pixel.size:
        raise ValueError("a source is given twice; keep the one with the smaller key")


@njit(cache=True, nogil=True)
def _flood_regions(
    bits: Ints,
    flip: np.int32,
    runs: Runs,
    first_key: Longs,
    keys: Longs,
    place: Ints,
    offsets: Longs,
    frame: Frame,
    queue: Queue,
    out: Ints,
    keys_out: Longs,
) -> None:
    """Flood the regions one by one.

    Region k has the sources ``keys[first_key[k] : first_key[k + 1]]``, sorted by key; the columns
    are place in `Sources`, level and hops. `place` is where they lie in the frame.
    """
    for k in range(offsets.shape[0]):
        load(bits, flip, runs, k, frame)
        for i in range(first_key[k], first_key[k + 1]):
            frame.wave[place[i]] = SOURCE
            frame.root[place[i]] = keys[i, 0]
        flood_frame(keys, place, first_key[k], first_key[k + 1], offsets[k], frame, queue)
        store(runs, k, frame, out, keys_out)
