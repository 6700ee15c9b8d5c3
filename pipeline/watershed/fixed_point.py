"""Rounds that repeat until no face of a tile changes any more.

Every tile computes the keys of its core (see `pipeline.kernels.lowering`) by itself, and keeps
those of its faces in scratch. Then the keys of the ring of pixels around the core come in, as the
neighbours last had them, and what they change inside is followed from there. A neighbour of a face
that changed is visited again. Keys only fall and have one end, so the tiles may be visited in any
order.

What a tile keeps has the number of the visit in its name: an order that comes late, or twice, does
not touch what a later one has left.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.box import Box
from pipeline.grid import Tile, TileGrid
from pipeline.kernels.lowering import lower
from pipeline.methods.base import Output, Round, State
from pipeline.records import Record
from pipeline.view import TileView
from pipeline.watershed.open import open_tiles

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]

#: What a tile keeps: the keys it began with, those that have fallen since, those of its faces.
FIRST, CHANGES, FACES = "first", "changes", "faces"


@dataclass(frozen=True)
class FixedPoint(Round):
    """Visit the tiles whose ring has changed, and tell which of them changed their faces."""

    grid: TileGrid

    #: Prefix of the state's keys and of the scratch arrays.
    key: ClassVar[str]
    #: What a hop counts, see `lower`.
    climb: ClassVar[int]

    @abstractmethod
    def landscape_of(self, view: TileView) -> tuple[Ints, Ints]:
        """Ordered altitudes and regions of the window of 1 px around the core."""

    @abstractmethod
    def first_keys(self, view: TileView, state: State) -> Longs:
        """Keys of that window as far as it knows by itself: a fixed point inside the core."""

    @property
    @abstractmethod
    def connectivity(self) -> int: ...

    @classmethod
    def is_done(cls, state: State) -> bool:
        """Whether nothing changed in the last round."""
        return f"{cls.key}.active" in state and len(state[f"{cls.key}.active"]) == 0

    @classmethod
    def iterations(cls, state: State) -> int:
        """Rounds so far."""
        return int(state[f"{cls.key}.iteration"]) if f"{cls.key}.iteration" in state else 0

    def tiles(self, grid: TileGrid, state: State) -> Sequence[int]:
        active = f"{self.key}.active"
        found = state[active] if active in state else open_tiles(state)
        return [int(n) for n in found]

    def map(self, view: TileView, state: State) -> Output:
        number = view.tile.number
        before = self._visited(state).get(number)
        if before is None:
            keys = self.first_keys(view, state)
            view.scratch.put(self._name(FIRST), number, keys)
        else:
            keys = self._lowered(view, state, before)
        found = keys.reshape(-1)[_face_pixels(view.tile.core, view.window(1))]
        same = before is not None and np.array_equal(
            found, view.scratch.get(self._name(FACES, before), number)
        )
        view.scratch.put(self._name(FACES, self.iterations(state)), number, found)
        return Output({"changed": np.array(not same)})

    def _lowered(self, view: TileView, state: State, before: int) -> Longs:
        """The keys behind the visit `before`, and what the ring has changed since."""
        number, window = view.tile.number, view.window(1)
        keys = self.keys_after(view, before)
        flat = keys.reshape(-1)
        ring, known = self.ring(view, state)
        fallen = known < flat[ring]
        flat[ring[fallen]] = known[fallen]
        lower(
            keys,
            *self.landscape_of(view),
            view.tile.core.relative_to(window.start),
            self.connectivity,
            ring[fallen],
            self.climb,
        )
        changed = np.flatnonzero(flat != view.scratch.get(self._name(FIRST), number).reshape(-1))
        changes = np.stack([changed, flat[changed]])
        view.scratch.put(self._name(CHANGES, self.iterations(state)), number, changes)
        return keys

    @classmethod
    def keys_after(cls, view: TileView, visit: int) -> Longs:
        """Keys of the window of 1 px around a core after the last visit."""
        keys: Longs = view.scratch.get(cls._name(FIRST), view.tile.number)
        if visit > 0:
            pixel, key = view.scratch.get(cls._name(CHANGES, visit), view.tile.number)
            keys.reshape(-1)[pixel] = key
        return keys

    @classmethod
    def keys(cls, view: TileView, state: State) -> Longs:
        """Keys of the window of 1 px around a core, when nothing changes any more."""
        keys = cls.keys_after(view, cls._visited(state)[view.tile.number])
        pixel, known = cls.ring(view, state)
        keys.reshape(-1)[pixel] = known
        return keys

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        iteration = self.iterations(state)
        known = set(open_tiles(state).tolist())
        visited = self._visited(state)
        active: set[int] = set()
        for number, record in records:
            visited[number] = iteration
            if record["changed"]:
                tile = self.grid.tile(number)
                active.update(n.number for _, n in _neighbours(self.grid, tile))
        return {
            **state,
            f"{self.key}.iteration": np.array(iteration + 1),
            f"{self.key}.visited": np.array(sorted(visited.items()), np.int64).reshape(-1, 2),
            f"{self.key}.active": np.array(sorted(active & known), np.int64),
        }

    @classmethod
    def ring(cls, view: TileView, state: State) -> tuple[Longs, Longs]:
        """What the neighbours last had in the ring of 1 px around a core.

        Returns
        -------
        pixel : ndarray of shape (n,), int64
            Raster indices in the window of 1 px around the core.
        keys : ndarray of shape (n,), int64
        """
        window = view.window(1)
        visited = cls._visited(state)
        places: list[Longs] = [np.empty(0, np.int64)]
        keys: list[Longs] = [np.empty(0, np.int64)]
        for _, tile in _neighbours(view.grid, view.tile):
            if tile.number in visited:
                packed = view.scratch.get(cls._name(FACES, visited[tile.number]), tile.number)
                common = tile.core.intersect(window)
                places.append(_raster_indices(common, window))
                keys.append(_unpack(packed, tile.core, common))
        return np.concatenate(places), np.concatenate(keys)

    @classmethod
    def _visited(cls, state: State) -> dict[int, int]:
        """Tile -> the iteration that last visited it."""
        name = f"{cls.key}.visited"
        return {int(t): int(i) for t, i in state[name]} if name in state else {}

    @classmethod
    def _name(cls, what: str, visit: int = 0) -> str:
        return f"{cls.key.replace('.', '-')}-{what}-{visit}"


def _neighbours(grid: TileGrid, tile: Tile) -> Iterator[tuple[tuple[int, ...], Tile]]:
    for direction in itertools.product((-1, 0, 1), repeat=grid.ndim):
        other = grid.neighbour(tile, direction) if any(direction) else None
        if other is not None:
            yield direction, other


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


def _unpack(packed: Longs, core: Box, box: Box) -> Longs:
    """Keys of a box that lies in one face of a core; `packed` has those of `_face_pixels`."""
    axis, end = _face_of(core, box)
    sizes = [core.size // n for n in core.shape for _ in (0, 1)]
    begin = sum(sizes[: 2 * axis + end])
    rest = tuple(n for i, n in enumerate(core.shape) if i != axis)
    cut = tuple(s for i, s in enumerate(box.within(core)) if i != axis)
    face = packed[begin : begin + sizes[2 * axis]].reshape(rest)
    return face[cut].reshape(-1)


def _face_of(core: Box, box: Box) -> tuple[int, int]:
    for axis in range(core.ndim):
        if box.shape[axis] == 1 and box.start[axis] == core.start[axis]:
            return axis, 0
        if box.shape[axis] == 1 and box.stop[axis] == core.stop[axis]:
            return axis, 1
    raise ValueError(f"{box} is no part of a face of {core}")
