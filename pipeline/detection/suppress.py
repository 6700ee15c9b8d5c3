"""Non-maximum suppression over a whole image, block by block.

All candidates of a frame have one order (`Candidates.rank`). A candidate is kept if no kept one
before it overlaps it by more than the threshold: that is the greedy suppression of the whole list.
A block decides what it can from its own candidates and those of the blocks whose objects may meet
its own, as they were left by the last turn. The first undecided one of all can always be decided,
so the turns come to an end, and a decision is never taken back: the end does not depend on the
order of visits.

A visit holds the candidates of a block and of those within twice the longest reach of an object
out of its block; of their masks only those that meet. No process holds the list of all objects.
The state has 4 bytes a block.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.blocks import own_blocks, owners
from pipeline.detection.detect import REACH
from pipeline.detection.detections import Candidates, Masks, Table
from pipeline.detection.kept import blocks_near, kept_candidates, kept_masks, numbers_in
from pipeline.grid import Tile, TileGrid
from pipeline.kernels.overlap import UNDECIDED, decide, earlier_overlaps, forget_apart
from pipeline.methods.base import Output, Round, State
from pipeline.records import Record
from pipeline.scratch import Scratch
from pipeline.view import TileView

Longs = NDArray[np.int64]

#: State: turns so far; which turn visited each block last; blocks with undecided candidates.
TURN, VISITED, OPEN = "suppress.turn", "suppress.visited", "suppress.open"


@dataclass(frozen=True, slots=True)
class Loaded(Table):
    """What a visit knows of the candidates of some blocks."""

    start: NDArray[np.float64]
    stop: NDArray[np.float64]
    block: Longs
    index: Longs
    status: NDArray[np.int8]


@dataclass(frozen=True)
class Suppress(Round):
    """Decide which candidates are kept.

    Parameters
    ----------
    blocks : TileGrid
    threshold : float
        A candidate goes if a kept one before it overlaps it by more, in intersection over union.
    by : {"box", "mask"}
        Of boxes, or of masks.
    across_classes : bool
        Whether objects of different classes suppress each other.
    """

    blocks: TileGrid
    threshold: float
    by: Literal["box", "mask"]
    across_classes: bool

    name: ClassVar[str] = "suppress"

    @staticmethod
    def is_done(state: State) -> bool:
        return TURN in state and len(state[OPEN]) == 0

    def tiles(self, grid: TileGrid, state: State) -> Sequence[int]:
        every = np.arange(len(self.blocks))
        return owners(state.get(OPEN, every), self.blocks, grid)

    def map(self, view: TileView, state: State) -> Output:
        wanted = set(state[OPEN].tolist()) if OPEN in state else None
        found: list[int] = []
        for block in own_blocks(self.blocks, view.tile):
            if wanted is not None and block.number not in wanted:
                continue
            status = self._decided(view.scratch, block, state)
            view.scratch.put(_name(int(state.get(TURN, 0))), block.number, status)
            if (status == UNDECIDED).any():
                found.append(block.number)
        return Output({OPEN: np.array(found, np.int64)})

    def combine(self, records: Iterable[Record]) -> Record:
        return {OPEN: numbers_in(records, OPEN)}

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        turn = int(state.get(TURN, 0))
        visited = state.get(VISITED, np.zeros(len(self.blocks), np.int32)).copy()
        if turn > 0:
            visited[state[OPEN]] = turn
        found = numbers_in((record for _, record in records), OPEN)
        return {**state, TURN: np.array(turn + 1), VISITED: visited, OPEN: found}

    def _decided(self, scratch: Scratch, block: Tile, state: State) -> NDArray[np.int8]:
        """What is known of a block's candidates after this visit."""
        near, known, masks = self._near(scratch, block, state)
        group = np.zeros(len(near), np.int64) if self.across_classes else near.class_id
        rank = near.rank(known.index)
        mine = np.flatnonzero(known.block == block.number)
        own = mine[np.argsort(rank[mine])]
        own = own[known.status[own] == UNDECIDED]
        first, earlier = earlier_overlaps(
            known.start,
            known.stop,
            rank,
            group.astype(np.int64),
            own,
            self.threshold if masks is None else 0.0,
        )
        if masks is not None:
            _forget_apart(own, first, earlier, masks, self.threshold)
        decide(own, first, earlier, known.status)
        return known.status[mine]

    def _near(
        self, scratch: Scratch, block: Tile, state: State
    ) -> tuple[Candidates, Loaded, Masks | None]:
        """Candidates of a block and of those around it which may meet its own."""
        reach = 2 * state[REACH]
        around = list(blocks_near(self.blocks, block.frame, block.core, reach))
        around.sort(key=lambda other: other.number != block.number)
        found: list[Candidates] = []
        known: list[Loaded] = []
        masks: list[Masks] = []
        for other in around:
            candidates = kept_candidates(scratch, other.number)
            its_masks = kept_masks(scratch, other.number) if self.by == "mask" else None
            its = self._known(scratch, other.number, state, candidates, its_masks)
            if known:  # the block itself comes first
                low, high = known[0].start.min(axis=0), known[0].stop.max(axis=0)
                meets = ((its.start < high) & (its.stop > low)).all(axis=1)
                chosen = np.flatnonzero(meets)
            else:
                chosen = np.arange(len(its))
            if len(chosen) or not known:
                found.append(candidates.select(chosen))
                known.append(its.select(chosen))
                if its_masks is not None:
                    masks.append(its_masks.select(chosen))
            if len(known[0]) == 0:
                break  # nothing to decide
        whole = Masks.concatenate(masks) if masks else None
        return Candidates.concatenate(found), Loaded.concatenate(known), whole

    def _known(
        self,
        scratch: Scratch,
        block: int,
        state: State,
        candidates: Candidates,
        masks: Masks | None,
    ) -> Loaded:
        ndim, count = self.blocks.ndim, len(candidates)
        box = candidates.box.astype(np.float64)
        start = box[:, :ndim] if masks is None else masks.start.astype(np.float64)
        stop = box[:, ndim:] if masks is None else masks.stop.astype(np.float64)
        status = kept_status(scratch, block, state) if TURN in state else np.zeros(count, np.int8)
        return Loaded(start, stop, np.full(count, block), np.arange(count), status)


def kept_status(scratch: Scratch, block: int, state: State) -> NDArray[np.int8]:
    """What the last visit knew of a block's candidates."""
    return scratch.get(_name(int(state[VISITED][block])), block)


def _name(turn: int) -> str:
    # An order that comes late, or twice, does not touch what a later turn has left.
    return f"suppress-status-{turn}"


def _forget_apart(own: Longs, first: Longs, earlier: Longs, masks: Masks, threshold: float) -> None:
    """Take out of `earlier` the masks that do not overlap enough: they become -1."""
    count, ndim = masks.shape.shape
    needed = np.unique(np.concatenate([own, earlier]))
    sizes = np.zeros(count, np.int64)
    sizes[needed] = masks.shape[needed].prod(axis=1)
    pixels = [mask.reshape(-1).view(np.uint8) for mask in masks.select(needed).unpacked()]
    start, shape = np.zeros((count, 3), np.int64), np.ones((count, 3), np.int64)
    start[:, 3 - ndim :], shape[:, 3 - ndim :] = masks.start, masks.shape
    offset = np.cumsum(sizes) - sizes
    flat = np.concatenate([np.empty(0, np.uint8), *pixels])
    forget_apart(own, first, earlier, start, shape, offset, flat, threshold)
