"""What blocks own of detections, in scratch under their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
