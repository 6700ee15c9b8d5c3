"""Looking for the objects of all blocks, and again in larger windows for those that were cut.

A block is seen through a window with a margin around it. An object belongs to the block that holds
its anchor. Where the window may have cut an object of its block, all of the block is looked at
again with twice the margin: the round repeats until no block has such an object.

    reading (a thread) | looking, on the device | making masks, writing (a thread)
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.blocks import extended, own_blocks, owners
from pipeline.box import Box
from pipeline.detection.detections import Detections
from pipeline.detection.detector import Detector
from pipeline.detection.kept import keep, numbers_in
from pipeline.errors import MethodError
from pipeline.grid import Tile, TileGrid
from pipeline.methods.base import Output, Round, State
from pipeline.records import Record
from pipeline.threads import ahead, behind
from pipeline.timings import Stopwatch, report
from pipeline.view import TileView

#: State: turns so far, blocks that have to be looked at again, how many that were in all turns,
#: how far objects reach out of their blocks on each axis, and the devices that looked.
TURN, CUT, AGAIN, REACH = "detect.turn", "detect.cut", "detect.again", "detect.reach"
DEVICES = "detect.devices"


@dataclass(frozen=True)
class Detect(Round):
    """Find the objects that each block owns.

    Parameters
    ----------
    detector : Detector
    blocks : TileGrid
    margin_px : int
        Of the first turn: of the largest object that is usual, and `context_px`.
    context_px : int
        An object that comes as near as that to an end of the window, which is not the frame's, may
        be cut, or seen in another way than whole.
    max_object_px : int
        Objects of that length must be found whole: no margin is larger than it and `context_px`.
    """

    detector: Detector
    blocks: TileGrid
    margin_px: int
    context_px: int
    max_object_px: int

    name: ClassVar[str] = "detect"
    device = "gpu"

    @staticmethod
    def is_done(state: State) -> bool:
        return TURN in state and len(state[CUT]) == 0

    def tiles(self, grid: TileGrid, state: State) -> Sequence[int]:
        every = np.arange(len(self.blocks))
        return owners(state.get(CUT, every), self.blocks, grid)

    def map(self, view: TileView, state: State) -> Output:
        margin, limit = self._margin(int(state.get(TURN, 0)))
        wanted = set(state[CUT].tolist()) if CUT in state else None
        reach = np.zeros(self.blocks.ndim, np.int64)
        cut: list[int] = []
        frame, watch, begun = view.grid.frame_box, Stopwatch(), time.perf_counter()

        def windows() -> Iterator[tuple[Tile, Box, NDArray[Any]]]:
            for block in own_blocks(self.blocks, view.tile):
                if wanted is None or block.number in wanted:
                    window = self.window(block.core, margin)
                    with watch.time("read"):
                        pixels = self._pixels(view, window)
                    yield block, window, pixels

        def finish(looked: tuple[Tile, Box, Any]) -> None:
            nonlocal reach
            block, window, seen = looked
            with watch.time("decode"):
                found = self.detector.objects(seen)
            if (length := self._cut_length(found, window, block.core)) == 0:
                found = found.select(np.flatnonzero(_anchored(found, block.core)))
                with watch.time("write"):
                    keep(view.scratch, block.number, found)
                reach = np.maximum(reach, _reach_of(found, block.core))
            elif limit:
                raise self._too_long(view, block, window, length)
            else:
                cut.append(block.number)

        with ahead(windows(), 1) as waiting, behind(finish, 1) as put:
            for block, window, pixels in waiting:
                with watch.time("compute"):
                    seen = self.detector.look(pixels, window, block.core, frame)
                watch.add("windows", 1)
                put((block, window, seen))
        watch.add("wall_s", time.perf_counter() - begun)
        report(watch.timings())
        devices = np.array([self.detector.device_name()])
        return Output({CUT: np.array(cut, np.int64), REACH: reach, DEVICES: devices})

    def combine(self, records: Iterable[Record]) -> Record:
        known = list(records)
        reach = np.max([record[REACH] for record in known], axis=0)
        devices = np.unique(np.concatenate([record[DEVICES] for record in known]))
        return {CUT: numbers_in(known, CUT), REACH: reach, DEVICES: devices}

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        found = self.combine(record for _, record in records)
        return {
            **state,
            TURN: np.array(int(state.get(TURN, 0)) + 1),
            CUT: found[CUT],
            AGAIN: np.array(int(state.get(AGAIN, 0)) + len(found[CUT])),
            REACH: np.maximum(found[REACH], state.get(REACH, 0)),
            DEVICES: np.union1d(found[DEVICES], state.get(DEVICES, found[DEVICES])),
        }

    def window(self, block: Box, margin_px: int) -> Box:
        """What the detector sees: ends that are not the frame's are multiples of the stride.

        The far end of the frame becomes the next multiple.
        """
        stride = self.detector.stride_px
        start = tuple(max(0, (a - margin_px) // stride * stride) for a in block.start)
        ends = zip(block.stop, self.blocks.shape, strict=True)
        stop = tuple(-(-min(b + margin_px, n) // stride) * stride for b, n in ends)
        return Box(start, stop)

    def _margin(self, turn: int) -> tuple[int, bool]:
        """Margin of a turn, and whether it is the last."""
        largest = max(self.margin_px, self.max_object_px + self.context_px)
        margin = min(self.margin_px * 2**turn, largest)
        return margin, margin == largest

    def _pixels(self, view: TileView, window: Box) -> NDArray[Any]:
        frame = view.grid.frame_box
        # The window begins on the stride, so that this is all of it.
        return extended(
            view.image_of(window.intersect(frame)), (self.detector.stride_px,) * frame.ndim
        )

    def _cut_length(self, found: Detections, window: Box, block: Box) -> int:
        """Longest side of an object that is the block's, or meets it, and may be cut; 0: none.

        What meets the block counts, too: where it is cut, its anchor may seem to lie elsewhere.
        """
        start, stop = found.start, found.stop
        low, high = np.array(window.start), np.array(window.stop)
        inner = (low > 0, high < np.array(self.blocks.shape))
        near = inner[0] & (start - low <= self.context_px)
        near |= inner[1] & (high - stop <= self.context_px)
        meets = (start < block.stop) & (stop > block.start)
        cut = near.any(axis=1) & (meets.all(axis=1) | _anchored(found, block))
        return int(np.ceil((stop - start)[cut]).max(initial=0))

    def _too_long(self, view: TileView, block: Tile, window: Box, length: int) -> MethodError:
        return MethodError(
            view.job.name,
            f"an object of block {block.number}, which begins at {block.core.start} px of frame "
            f"{block.frame}, is {length} px long or longer: the largest window, of "
            f"{window.shape} px, may cut it; max_object_px is {self.max_object_px}",
            "Raise max_object_px in the recipe's segment section, or make the image smaller.",
        )


def _anchored(found: Detections, block: Box) -> NDArray[np.bool_]:
    anchor = found.candidates.anchor
    owned = (anchor >= np.array(block.start)) & (anchor < np.array(block.stop))
    return np.asarray(owned.all(axis=1))


def _reach_of(found: Detections, block: Box) -> NDArray[np.int64]:
    """How far objects reach out of their block, in px, on each axis."""
    before = (np.array(block.start) - found.start).max(axis=0, initial=0)
    behind = (found.stop - np.array(block.stop)).max(axis=0, initial=0)
    return np.asarray(np.ceil(np.maximum(before, behind)), np.int64)
