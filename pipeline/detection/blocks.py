"""Blocks: the cut of frames on which a detector works, whatever the tiles.

A block is looked at by the tile that holds its first pixel. What is found goes to scratch under the
number of the block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.box import Box
from pipeline.detection.detections import Candidates, Detections, Masks
from pipeline.grid import Tile, TileGrid
from pipeline.records import Record
from pipeline.scratch import Scratch

CANDIDATES = "detect-candidates"
MASK_BOXES = "detect-mask-boxes"
MASK_BITS = "detect-mask-bits"


def cut_into_blocks(grid: TileGrid, block_px: int) -> TileGrid:
    """The blocks of the frames of `grid`, of `block_px` on every axis."""
    side = tuple(min(block_px, n) for n in grid.shape)
    return TileGrid(grid.frames, grid.shape, side)


def blocks_of(tile: Tile, blocks: TileGrid) -> list[Tile]:
    """Blocks whose first pixels lie in a tile's core, in raster order."""
    first = [-(-a // s) for a, s in zip(tile.core.start, blocks.side, strict=True)]
    behind = [-(-b // s) for b, s in zip(tile.core.stop, blocks.side, strict=True)]
    if any(a >= b for a, b in zip(first, behind, strict=True)):
        return []
    start = tuple(a * s for a, s in zip(first, blocks.side, strict=True))
    stop = tuple((b - 1) * s + 1 for b, s in zip(behind, blocks.side, strict=True))
    return list(blocks.touching(tile.frame, Box(start, stop)))


def tiles_of(numbers: NDArray[np.int64], blocks: TileGrid, grid: TileGrid) -> Sequence[int]:
    """Tiles that hold the first pixels of some blocks, each once, ascending."""
    frame, rest = np.divmod(numbers, blocks.tiles_per_frame)
    index = np.stack(np.unravel_index(rest, blocks.counts), axis=1)
    place = index * np.array(blocks.side) // np.array(grid.side)
    tile = np.ravel_multi_index(tuple(place.T), grid.counts)
    found: list[int] = np.unique(frame * grid.tiles_per_frame + tile).tolist()
    return found


def blocks_near(
    blocks: TileGrid, frame: int, box: Box, reach_px: NDArray[np.int64]
) -> Iterator[Tile]:
    """Blocks of a frame whose objects, that reach so far out of them, may meet a box."""
    return blocks.touching(frame, box.grow([int(n) for n in reach_px], blocks.frame_box))


def keep(scratch: Scratch, block: int, found: Detections) -> None:
    """Put what a block owns to scratch."""
    scratch.put(CANDIDATES, block, found.candidates.packed())
    boxes = np.concatenate([found.masks.start, found.masks.shape], axis=1)
    scratch.put(MASK_BOXES, block, boxes)
    scratch.put(MASK_BITS, block, found.masks.bits)


def kept_candidates(scratch: Scratch, block: int) -> Candidates:
    return Candidates.unpack(scratch.get(CANDIDATES, block))


def kept_masks(scratch: Scratch, block: int) -> Masks:
    start, shape = np.hsplit(scratch.get(MASK_BOXES, block), 2)
    return Masks(start, shape, scratch.get(MASK_BITS, block))


def numbers_in(records: Iterable[Record], key: str) -> NDArray[np.int64]:
    """Block numbers that several records have under a key, ascending."""
    found = [record[key] for record in records]
    return np.unique(np.concatenate([np.empty(0, np.int64), *found]))
