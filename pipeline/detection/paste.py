"""Pasting the masks that were kept: a pixel belongs to the first object in the global order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.box import Box
from pipeline.detection.detect import REACH
from pipeline.detection.detections import Candidates, Detections
from pipeline.detection.kept import blocks_near, kept_candidates, kept_masks
from pipeline.detection.suppress import kept_status
from pipeline.grid import TileGrid
from pipeline.kernels.overlap import KEPT
from pipeline.methods.base import EmittingRound, Output, State, TileLabels
from pipeline.view import TileView

Longs = NDArray[np.int64]

#: Keys of objects are block number * KEYS + place in the block's list.
KEYS = 2**32


@dataclass(frozen=True)
class Paste(EmittingRound):
    """Emit the objects that were kept; one that has no pixel left is gone.

    A visit holds the kept masks of the blocks whose objects may meet the core, a bit a pixel.
    """

    blocks: TileGrid

    name: ClassVar[str] = "paste"
    done: ClassVar[str] = "paste.done"

    def map(self, view: TileView, state: State) -> Output:
        labels, keys, candidates = self.pasted(view, state)
        return Output({}, TileLabels(labels, keys=keys, facts=facts_of(candidates)))

    def pasted(self, view: TileView, state: State) -> tuple[NDArray[np.uint32], Longs, Candidates]:
        """Labels of a core, the keys of the objects that it shows, and what is known of them."""
        core = view.tile.core
        found, key = self._kept(view, state)
        order = np.argsort(found.candidates.rank(key % KEYS))
        found, key = found.select(order), key[order]
        labels = np.zeros(core.shape, np.uint32)
        seen: list[int] = []
        starts, stops = found.masks.start, found.masks.stop
        for i, mask in enumerate(found.masks.unpacked()):
            box = Box(tuple(starts[i].tolist()), tuple(stops[i].tolist()))
            common = box.intersect(core)
            target = labels[common.within(core)]
            free = mask[common.within(box)] & (target == 0)
            if free.any():
                seen.append(i)
                target[free] = len(seen)
        chosen = np.array(seen, np.int64)
        return labels, key[chosen], found.candidates.select(chosen)

    def _kept(self, view: TileView, state: State) -> tuple[Detections, Longs]:
        """Kept objects whose masks' boxes meet the core, and their keys."""
        core, frame = view.tile.core, view.tile.frame
        found: list[Detections] = []
        keys: list[Longs] = []
        for block in blocks_near(self.blocks, frame, core, state[REACH]):
            chosen = kept_status(view.scratch, block.number, state) == KEPT
            masks = kept_masks(view.scratch, block.number)
            chosen &= ((masks.start < core.stop) & (masks.stop > core.start)).all(axis=1)
            index = np.flatnonzero(chosen)
            candidates = kept_candidates(view.scratch, block.number)
            found.append(Detections(candidates.select(index), masks.select(index)))
            keys.append(block.number * KEYS + index)
        return Detections.concatenate(found), np.concatenate(keys)


def fact_columns(axes: str) -> dict[str, str]:
    """Columns of the object table that come from a detector; `axes` are those of a frame."""
    ends = ("start", "stop")
    boxes = {f"detected_{axis}_{end}_px": "float32" for end in ends for axis in axes}
    return {"score": "float32", "class_id": "int32", **boxes}


def facts_of(candidates: Candidates) -> dict[str, NDArray[np.generic]]:
    """What the columns of `fact_columns` have of some objects."""
    axes = "zyx"[-candidates.anchor.shape[1] :]
    columns = [candidates.probability, candidates.class_id, *candidates.box.T]
    return dict(zip(fact_columns(axes), columns, strict=True))
