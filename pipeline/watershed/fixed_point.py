"""Rounds that repeat until no face of a tile changes any more.

Every tile computes values of its core from the ring of pixels around it, as the neighbours last had
them, and keeps those of its faces in scratch. A neighbour of a face that changed is visited again.
Where values only move one way and have one end, the tiles may be visited in any order.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.box import Box
from pipeline.grid import Tile, TileGrid
from pipeline.methods.base import Output, Round, State
from pipeline.records import Record
from pipeline.view import TileView
from pipeline.watershed.open import open_tiles

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]


@dataclass(frozen=True)
class FixedPoint(Round):
    """Visit the tiles whose ring has changed, and tell which of them changed their faces."""

    grid: TileGrid

    #: Prefix of the state's keys and of the scratch arrays.
    key: ClassVar[str]
    #: int32 values a pixel.
    values: ClassVar[int]

    @abstractmethod
    def on_faces(self, view: TileView, state: State, pixels: Longs) -> Ints:
        """The values of a core's faces, shape (values, n).

        `pixels` are their raster indices in the window of 1 px around the core.
        """

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
        faces = _face_pixels(view.tile.core, view.window(1))
        found = self.on_faces(view, state, faces).reshape(-1)
        number = view.tile.number
        before = self._visited(state).get(number)
        same = before is not None and np.array_equal(
            found, view.scratch.get(self._name(before), number)
        )
        view.scratch.put(self._name(self.iterations(state)), number, found)
        return Output({"changed": np.array(not same)})

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
    def ring(cls, view: TileView, state: State) -> tuple[Longs, Ints]:
        """What the neighbours last had in the ring of 1 px around a core.

        Returns
        -------
        pixel : ndarray of shape (n,), int64
            Raster indices in the window of 1 px around the core.
        values : ndarray of shape (values, n), int32
        """
        window = view.window(1)
        visited = cls._visited(state)
        places: list[Longs] = [np.empty(0, np.int64)]
        values: list[Ints] = [np.empty((cls.values, 0), np.int32)]
        for _, tile in _neighbours(view.grid, view.tile):
            if tile.number in visited:
                packed = view.scratch.get(cls._name(visited[tile.number]), tile.number)
                common = tile.core.intersect(window)
                places.append(_raster_indices(common, window))
                values.append(_unpack(packed, cls.values, tile.core, common))
        return np.concatenate(places), np.concatenate(values, axis=1)

    @classmethod
    def _visited(cls, state: State) -> dict[int, int]:
        """Tile -> the iteration that last visited it."""
        name = f"{cls.key}.visited"
        return {int(t): int(i) for t, i in state[name]} if name in state else {}

    @classmethod
    def _name(cls, iteration: int) -> str:
        return f"{cls.key.replace('.', '-')}-{iteration}"


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


def _unpack(packed: NDArray[Any], values: int, core: Box, box: Box) -> Ints:
    """Values, shape (values, n), of a box that lies in one face of a core.

    `packed` holds the values of the pixels of `_face_pixels`, one kind behind the other.
    """
    axis, end = _face_of(core, box)
    sizes = [core.size // n for n in core.shape for _ in (0, 1)]
    begin = sum(sizes[: 2 * axis + end])
    rest = tuple(n for i, n in enumerate(core.shape) if i != axis)
    cut = tuple(s for i, s in enumerate(box.within(core)) if i != axis)
    face = packed.reshape(values, -1)[:, begin : begin + sizes[2 * axis]].reshape(values, *rest)
    found: Ints = face[(slice(None), *cut)].reshape(values, -1)
    return found.astype(np.int32, copy=False)


def _face_of(core: Box, box: Box) -> tuple[int, int]:
    for axis in range(core.ndim):
        if box.shape[axis] == 1 and box.start[axis] == core.start[axis]:
            return axis, 0
        if box.shape[axis] == 1 and box.stop[axis] == core.stop[axis]:
            return axis, 1
    raise ValueError(f"{box} is no part of a face of {core}")
