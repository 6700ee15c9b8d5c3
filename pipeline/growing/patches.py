"""Patches: what a tile knows of the regions that have reached it, kept in scratch.

Each visit that finds something writes all patches of the tile anew, under a name that carries the
iteration, so that a repeated visit finds what it read the first time. The state tells which
version of a tile counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from pipeline.grid import Tile, TileGrid
from pipeline.kernels.components import AXES_APART
from pipeline.kernels.grow import Shape
from pipeline.methods.base import State
from pipeline.scratch import Scratch

Longs = NDArray[np.int64]
Floats = NDArray[np.float64]

#: Rows (tile, version, last visit) of the tiles visited in this pass; version -1: no patch yet.
VISITED = "growing.visited"


@dataclass(frozen=True, slots=True)
class Patches:
    """The patches of one tile.

    Parameters
    ----------
    sums : ndarray of shape (n, 6), int64
        Interval, root (raster index in the core), pixels, and sums of values and squares, see
        `pipeline.kernels.grow.Grown`.
    extremes : ndarray of shape (n, 2), float64
        Smallest and largest value.
    faces : ndarray of shape (m, 5), int64
        Runs of their pixels on the core's faces: interval, patch, start, stop, and the iteration
        that found them; in the order of intervals.
    seeds : ndarray of shape (k, 2), int64
        Seeds, and the patches that hold pixels of them.
    """

    sums: Longs
    extremes: Floats
    faces: Longs
    seeds: Longs

    @classmethod
    def none(cls) -> Patches:
        return cls(
            np.empty((0, 6), np.int64),
            np.empty((0, 2)),
            np.empty((0, 5), np.int64),
            np.empty((0, 2), np.int64),
        )

    def with_more(self, more: Patches) -> Patches:
        """These, then others, whose patches are numbered behind them already."""
        faces = np.concatenate([self.faces, more.faces])
        return Patches(
            np.concatenate([self.sums, more.sums]),
            np.concatenate([self.extremes, more.extremes]),
            faces[np.argsort(faces[:, 0], kind="stable")],
            np.concatenate([self.seeds, more.seeds]),
        )

    def save(self, scratch: Scratch, tile: int, iteration: int) -> None:
        for field in fields(self):
            scratch.put(_name(field.name, iteration), tile, getattr(self, field.name))


@dataclass(frozen=True, slots=True)
class Visits:
    """Which tiles were visited in this pass, and when."""

    version: dict[int, int]
    last: dict[int, int]

    @classmethod
    def of(cls, state: State) -> Visits:
        rows = state[VISITED].tolist() if VISITED in state else []
        return cls({t: v for t, v, _ in rows if v >= 0}, {t: n for t, _, n in rows})

    def patches(self, scratch: Scratch, tile: int) -> Patches:
        if tile not in self.version:
            return Patches.none()
        names = (_name(field.name, self.version[tile]) for field in fields(Patches))
        return Patches(*(scratch.get(name, tile) for name in names))

    def faces(self, scratch: Scratch, tile: int) -> Longs:
        if tile not in self.version:
            return np.empty((0, 5), np.int64)
        return scratch.get(_name("faces", self.version[tile]), tile)

    def rows(self) -> Longs:
        found = [(t, self.version.get(t, -1), n) for t, n in sorted(self.last.items())]
        return np.array(found, np.int64).reshape(-1, 3)


def neighbours(
    grid: TileGrid, tile: Tile, connectivity: int
) -> Iterator[tuple[tuple[int, ...], Tile]]:
    """Tiles with pixels that are neighbours of a tile's pixels, by direction."""
    reach = AXES_APART[grid.ndim][connectivity]
    for direction in itertools.product((-1, 0, 1), repeat=grid.ndim):
        other = grid.neighbour(tile, direction) if 0 < sum(map(abs, direction)) <= reach else None
        if other is not None:
            yield direction, other


def three_axes(numbers: tuple[int, ...], fill: int) -> Shape:
    """Numbers of two or three axes as (Z, Y, X)."""
    z, y, x = (fill, *numbers)[-3:]
    return z, y, x


def _name(kind: str, iteration: int) -> str:
    return f"growing-{kind}-{iteration}"
