"""Blocks: the cut of frames on which networks and detectors work, whatever the tiles.

Their side follows from the recipe, never from the tile, so that every tiling asks the same
questions and gets the same bits. A block is computed by the tile that holds its first pixel, and
what is found goes to scratch under the number of the block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.box import Box
from pipeline.grid import Tile, TileGrid
from pipeline.scratch import Scratch
from pipeline.view import TileView

Array = NDArray[Any]


def block_grid(grid: TileGrid, side_px: Sequence[int]) -> TileGrid:
    """The cut of the same frames into blocks."""
    side = tuple(min(s, n) for s, n in zip(side_px, grid.shape, strict=True))
    return TileGrid(grid.frames, grid.shape, side)


def own_blocks(blocks: TileGrid, tile: Tile) -> list[Tile]:
    """Blocks that a tile computes, in raster order."""
    return list(blocks.beginning_in(tile.frame, tile.core))


def owners(numbers: NDArray[np.int64], blocks: TileGrid, grid: TileGrid) -> Sequence[int]:
    """Tiles that compute some blocks, each once, ascending."""
    frame, rest = np.divmod(numbers, blocks.tiles_per_frame)
    index = np.stack(np.unravel_index(rest, blocks.counts), axis=1)
    place = index * np.array(blocks.side) // np.array(grid.side)
    tile = np.ravel_multi_index(tuple(place.T), grid.counts)
    found: list[int] = np.unique(frame * grid.tiles_per_frame + tile).tolist()
    return found


def extended(pixels: Array, multiple: Sequence[int]) -> Array:
    """Repeat the last pixel of each axis up to a multiple of a network's stride.

    Parameters
    ----------
    pixels : ndarray of shape (C, \\*window)

    Returns
    -------
    ndarray of shape (C, \\*larger window)
        Only windows that end with the frame need it: others are multiples already.
    """
    missing = [(-n) % m for n, m in zip(pixels.shape[1:], multiple, strict=True)]
    if not any(missing):
        return pixels
    return np.pad(pixels, [(0, 0), *((0, n) for n in missing)], mode="edge")


def read_blocks(
    scratch: Scratch, name: str, blocks: TileGrid, frame: int, box: Box
) -> NDArray[np.float32]:
    """What blocks have left in scratch, on a box of a frame.

    Returns
    -------
    ndarray of shape (K, \\*box), float32
    """
    out: NDArray[np.float32] | None = None
    for block in blocks.touching(frame, box):
        found = scratch.get(name, block.number)
        if out is None:
            out = np.empty((len(found), *box.shape), np.float32)
        common = block.core.intersect(box)
        out[(slice(None), *common.within(box))] = found[(slice(None), *common.within(block.core))]
    if out is None:
        raise ValueError(f"{box} holds no pixel")
    return out


def view_of_blocks(view: TileView, name: str, blocks: TileGrid, halo_px: int) -> Array:
    """What blocks have left, on the window of a tile."""
    return read_blocks(view.scratch, name, blocks, view.tile.frame, view.window(halo_px))
