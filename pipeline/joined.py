"""Whole objects: what the joining found, and how pixels look them up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.box import Box
from pipeline.grid import Tile, TileGrid
from pipeline.kernels.relabel import relabel
from pipeline.scratch import Scratch

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Joined:
    """Whole objects of an image.

    Parameters
    ----------
    offsets : ndarray of shape (tiles + 1,), int64
        Pieces of tile i are offsets[i] .. offsets[i + 1].
    labels : ndarray of shape (pieces,), uint32 or uint64, or uint8 for classes
        The final label of every piece, 0 for dropped ones: the lookup tables of all tiles.
    count : int
        Number of objects; labels are 1..count, but where objects have the numbers of those that
        they were made from.
    """

    offsets: IntArray
    labels: NDArray[np.unsignedinteger[Any]]
    count: int

    @property
    def largest(self) -> int:
        """The largest label."""
        return int(self.labels.max(initial=0))

    def table(self, tile: int) -> NDArray[np.unsignedinteger[Any]]:
        """Lookup table of a tile: final label by tile label, with 0 -> 0."""
        own = self.labels[self.offsets[tile] : self.offsets[tile + 1]]
        return np.concatenate([np.zeros(1, own.dtype), own])


@dataclass(frozen=True, slots=True)
class WholeObjects:
    """Joined objects as windows see them.

    Parameters
    ----------
    joined : Joined
    generation : int
        How often labels were joined, this time included.
    """

    joined: Joined
    generation: int

    def labels(
        self, grid: TileGrid, frame: int, box: Box, scratch: Scratch
    ) -> NDArray[np.unsignedinteger[Any]]:
        """Final labels of a box of a frame: those of its tiles, looked up."""
        name = labels_name(self.generation - 1)

        def looked_up(tile: Tile, cut: tuple[slice, ...]) -> NDArray[Any]:
            return relabel(scratch.get(name, tile.number)[cut], self.joined.table(tile.number))

        out = np.zeros(box.shape, self.joined.labels.dtype)
        put_together(grid, frame, box, looked_up, out)
        return out


def put_together(
    grid: TileGrid,
    frame: int,
    box: Box,
    part: Callable[[Tile, tuple[slice, ...]], NDArray[Any]],
    out: NDArray[Any],
) -> None:
    """Fill a box of a frame with the parts of the tiles that share pixels with it.

    Parameters
    ----------
    part : callable
        Gives some pixels, cut out by slices of its core, of a tile.
    out : ndarray of shape (\\*box)
    """
    for tile in grid.touching(frame, box):
        common = tile.core.intersect(box)
        out[common.within(box)] = part(tile, common.within(tile.core))


def labels_of_keys(joined: Joined, pieces: Callable[[int], Mapping[str, NDArray[Any]]]) -> IntArray:
    """Final label of every key 1..n that tiles have given their pieces."""
    found = [np.empty((0, 2), np.int64)]
    for number in range(len(joined.offsets) - 1):
        keys = pieces(number)["keys"].astype(np.int64)
        labels = joined.table(number)[1:].astype(np.int64)
        found.append(np.stack([keys, labels], axis=1)[keys > 0])
    pairs = np.concatenate(found)
    label = np.zeros(int(pairs[:, 0].max(initial=0)) + 1, np.int64)
    label[pairs[:, 0]] = pairs[:, 1]
    return label


def labels_name(generation: int) -> str:
    """Name of the scratch array of a tile's labels that were emitted after so many joins.

    Neighbours may still read labels of before a join while new ones are written.
    """
    return f"labels-{generation}"
