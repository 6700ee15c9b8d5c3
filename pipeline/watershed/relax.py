"""The watershed of open regions as a fixed point over tiles.

Every pixel has one key (level, hops), see `pipeline.kernels.flood`. Tiles compute the keys of their
cores from their own markers and from the keys of the ring around them, as their neighbours last
had them. Keys only ever fall and have one fixed point, so the tiles may be visited in any order;
when no face changes any more, the keys are those of the untiled image. Then each pixel follows its
predecessors to a marker, or to a pixel of the ring, which belongs to a piece of a neighbour.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.box import Box
from pipeline.grid import Tile, TileGrid
from pipeline.kernels.flood import Heights, Sources, flood, flood_keys
from pipeline.kernels.relabel import occurring, relabel
from pipeline.methods.base import EmittingRound, Output, Round, State, TileLabels
from pipeline.records import Record
from pipeline.view import TileView
from pipeline.watershed.flood import (
    WHOLE_KEYS,
    WHOLE_LABELS,
    inside_core,
    keys_of,
    linear_indices,
    numbered,
)
from pipeline.watershed.landscape import Landscape
from pipeline.watershed.open import MARKERS, RING_ALTITUDE, RING_REGION, open_tiles

ACTIVE = "watershed.active"
VISITED = "watershed.visited"
ITERATION = "watershed.iteration"
RESOLVED = "watershed.resolved"

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]


@dataclass(frozen=True)
class Relax(Round):
    """Visit the tiles whose ring has changed, and tell which of them changed their faces."""

    landscape: Landscape
    grid: TileGrid

    name: ClassVar[str] = "relax"

    def tiles(self, grid: TileGrid, state: State) -> Sequence[int]:
        found = state[ACTIVE] if ACTIVE in state else open_tiles(state)
        return [int(n) for n in found]

    def map(self, view: TileView, state: State) -> Output:
        faces = _face_pixels(view.tile.core, view.window(1))
        altitude, region, sources = _core_to_flood(view, state)
        connectivity = self.landscape.connectivity
        level, hops = flood_keys(altitude, region, sources, connectivity, faces)
        keys = np.concatenate([level.view(np.int32), hops])
        number = view.tile.number
        before = _visited(state).get(number)
        same = before is not None and np.array_equal(
            keys, view.scratch.get(_keys_name(before), number)
        )
        view.scratch.put(_keys_name(_iteration(state)), number, keys)
        return Output({"changed": np.array(not same)})

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        iteration = _iteration(state)
        known = set(open_tiles(state).tolist())
        visited = _visited(state)
        active: set[int] = set()
        for number, record in records:
            visited[number] = iteration
            if record["changed"]:
                tile = self.grid.tile(number)
                active.update(n.number for _, n in _neighbours(self.grid, tile))
        return {
            **state,
            ITERATION: np.array(iteration + 1),
            VISITED: np.array(sorted(visited.items()), np.int64).reshape(-1, 2),
            ACTIVE: np.array(sorted(active & known), np.int64),
        }


@dataclass(frozen=True)
class Resolve(EmittingRound):
    """Give every pixel to a marker, or to the ring's pixel that it was reached from."""

    landscape: Landscape

    name: ClassVar[str] = "resolve"
    done: ClassVar[str] = RESOLVED

    def tiles(self, grid: TileGrid, state: State) -> Sequence[int]:
        return [int(n) for n in open_tiles(state)]

    def map(self, view: TileView, state: State) -> Output:
        altitude, region, sources = _core_to_flood(view, state)
        number = flood(altitude, region, sources, self.landscape.connectivity)
        del altitude, region  # a core is large
        window = view.window(1)
        core = view.tile.core.within(window)
        labels, found = numbered(np.ascontiguousarray(number[core]), len(sources.pixel) + 1)
        del number
        reached = sources.pixel[found - 1]
        pixels = linear_indices(view, window, reached, (0,) * view.grid.ndim)
        at_home = inside_core(reached, window, view.tile.core)
        numbers = np.arange(1, len(reached) + 1)
        links = np.stack([numbers[~at_home], pixels[~at_home]], axis=1)
        keys = np.where(at_home, pixels, -1)
        return Output({}, self._with_whole(view, TileLabels(labels, keys=keys, links=links)))

    def _with_whole(self, view: TileView, opened: TileLabels) -> TileLabels:
        """Add the components of this core that a window held whole."""
        whole = view.scratch.get(WHOLE_LABELS, view.tile.number)
        keys = view.scratch.get(WHOLE_KEYS, view.tile.number).astype(np.int64, copy=False)
        labels = opened.labels
        free = labels == 0
        found = np.flatnonzero(occurring(whole * free, len(keys) + 1))
        found = found[found > 0]
        number = np.zeros(len(keys) + 1, np.uint32)
        number[found] = np.arange(1, len(found) + 1) + int(labels.max(initial=0))
        np.copyto(labels, relabel(whole, number), where=free)
        return TileLabels(
            labels, keys=np.concatenate([keys_of(opened), keys[found - 1]]), links=opened.links
        )


def _core_to_flood(view: TileView, state: State) -> tuple[Heights, Ints, Sources]:
    """Altitude, regions and sources of a core in a window with a ring of 1 px.

    The sources are the core's markers and those pixels of the ring whose keys are known.
    """
    altitude = view.scratch.get(RING_ALTITUDE, view.tile.number)
    region = view.scratch.get(RING_REGION, view.tile.number)
    window = view.window(1)
    core = view.tile.core.within(window)
    own = _own_markers(view, state, window)
    ring, levels, hops = _ring_keys(view, state, window, altitude.dtype)
    beside = region.reshape(-1)[ring]
    # A ring pixel without a key is a wall: were it flooded from here, the key that its owner gives
    # it later could be higher, keys would not only fall, and tiles could swing for ever.
    for axis, (first, last) in enumerate(zip(core, region.shape, strict=True)):
        for rim in (slice(0, first.start), slice(first.stop, last)):
            region[(slice(None),) * axis + (rim,)] = 0
    region.reshape(-1)[ring] = beside
    wanted = beside > 0
    markers = Sources.markers(own, altitude)
    known = Sources(ring[wanted], levels[wanted], hops[wanted])
    both = Sources(
        np.concatenate([markers.pixel, known.pixel]),
        np.concatenate([markers.level, known.level]),
        np.concatenate([markers.hops, known.hops]),
    )
    return altitude, region, both


def _own_markers(view: TileView, state: State, window: Box) -> Longs:
    """Raster indices, in the window, of the markers in the core."""
    shape = view.grid.shape
    frame, rest = np.divmod(state[MARKERS].astype(np.int64), int(np.prod(shape)))
    inside = frame == view.tile.frame
    place = np.stack(np.unravel_index(rest, shape), axis=1)
    core = view.tile.core
    inside &= ((place >= np.array(core.start)) & (place < np.array(core.stop))).all(axis=1)
    local = place[inside] - np.array(window.start)
    flat: Longs = np.ravel_multi_index(tuple(local.T), window.shape).astype(np.int64)
    return flat


def _ring_keys(
    view: TileView, state: State, window: Box, dtype: np.dtype[np.generic]
) -> tuple[Longs, NDArray[Any], Ints]:
    """Pixels of the ring (raster indices in the window) whose keys are known, and the keys."""
    visited = _visited(state)
    places, levels, hops = [np.empty(0, np.int64)], [np.empty(0, np.int32)], [np.empty(0, np.int32)]
    for _, tile in _neighbours(view.grid, view.tile):
        if tile.number not in visited:
            continue
        packed = view.scratch.get(_keys_name(visited[tile.number]), tile.number)
        common = tile.core.intersect(window)
        level, hop = _unpack(packed, tile.core, common)
        known = hop.reshape(-1) >= 0
        places.append(_raster_indices(common, window)[known])
        levels.append(level.reshape(-1)[known])
        hops.append(hop.reshape(-1)[known])
    return (
        np.concatenate(places),
        np.concatenate(levels).view(dtype),
        np.concatenate(hops),
    )


def _raster_indices(box: Box, window: Box) -> Longs:
    """Raster indices, in a window, of the pixels of a box."""
    local = box.relative_to(window.start)
    axes = [np.arange(a, b, dtype=np.int64) for a, b in zip(local.start, local.stop, strict=True)]
    flat: Longs = np.ravel_multi_index(np.ix_(*axes), window.shape).reshape(-1)
    return flat


def _face_pixels(core: Box, window: Box) -> Longs:
    """Raster indices, in a window, of the faces of a core, one behind the other."""
    faces = []
    for axis in range(core.ndim):
        for at in (core.start[axis], core.stop[axis] - 1):
            start, stop = list(core.start), list(core.stop)
            start[axis], stop[axis] = at, at + 1
            faces.append(_raster_indices(Box(tuple(start), tuple(stop)), window))
    return np.concatenate(faces)


def _unpack(packed: NDArray[Any], core: Box, box: Box) -> tuple[Ints, Ints]:
    """Keys of a box that lies in one face of a core; hops of -1 mean: not reached.

    `packed` holds the levels, then the hops, of the pixels of `_face_pixels`.
    """
    shape = core.shape
    axis, end = _face_of(core, box)
    sizes = [int(np.prod(shape)) // n for n in shape for _ in (0, 1)]
    begin = int(sum(sizes[: 2 * axis + end]))
    half = int(sum(sizes))
    rest = tuple(n for i, n in enumerate(shape) if i != axis)
    cut = tuple(s for i, s in enumerate(box.within(core)) if i != axis)
    level, hops = (
        packed[shift + begin : shift + begin + sizes[2 * axis]].reshape(rest)[cut]
        for shift in (0, half)
    )
    return level.astype(np.int32, copy=False), hops.astype(np.int32, copy=False)


def _face_of(core: Box, box: Box) -> tuple[int, int]:
    for axis in range(core.ndim):
        if box.shape[axis] == 1 and box.start[axis] == core.start[axis]:
            return axis, 0
        if box.shape[axis] == 1 and box.stop[axis] == core.stop[axis]:
            return axis, 1
    raise ValueError(f"{box} is no part of a face of {core}")


def _neighbours(grid: TileGrid, tile: Tile) -> Iterator[tuple[tuple[int, ...], Tile]]:
    for direction in itertools.product((-1, 0, 1), repeat=grid.ndim):
        other = grid.neighbour(tile, direction) if any(direction) else None
        if other is not None:
            yield direction, other


def _visited(state: State) -> dict[int, int]:
    """Tile -> the iteration that last visited it."""
    if VISITED not in state:
        return {}
    return {int(tile): int(iteration) for tile, iteration in state[VISITED]}


def _iteration(state: State) -> int:
    return int(state[ITERATION]) if ITERATION in state else 0


def _keys_name(iteration: int) -> str:
    return f"watershed-keys-{iteration}"
