"""Evaluating networks on blocks: what the rounds ask for, with torch.

A member of the ensemble is a model and a way to see the frame. The outputs of a block are the mean
over all members: of probabilities for classes, of the numbers themselves for other heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.blocks import block_grid, own_blocks
from pipeline.box import Box
from pipeline.grid import Tile, TileGrid
from pipeline.methods.base import State
from pipeline.nets.batching import run_batches
from pipeline.nets.device import Precision
from pipeline.nets.model_pass import ModelPass
from pipeline.nets.settings import SCORES, Settings
from pipeline.scratch import MemoryScratch, Scratch
from pipeline.timings import Timings, report
from pipeline.view import TileView

Array = NDArray[Any]

#: One of so many blocks is computed once more, in part.
CHECK_EVERY = 64
#: The part of a block's side that is computed once more, in a window of its own.
CHECK_PART = 4


@dataclass(frozen=True)
class Evaluation:
    """Networks on the blocks of one tile.

    Parameters
    ----------
    settings : Settings
    view : TileView
        Read by one thread at a time: it remembers pixels.
    state : dict of ndarray
    """

    settings: Settings
    view: TileView
    state: State

    @property
    def blocks(self) -> TileGrid:
        return block_grid(self.view.grid, self.settings.block_px)

    def own(self) -> list[Tile]:
        """Blocks that the tile computes."""
        return own_blocks(self.blocks, self.view.tile)

    def keep(
        self,
        blocks: Sequence[Tile],
        precision: Precision,
        scratch: Scratch,
        seen: Callable[[Tile, NDArray[np.float32]], None],
    ) -> Timings:
        """Compute the outputs (K, \\*core) of all members together, and keep them in scratch.

        The models run one after the other. What the ones before add up to waits in scratch, so that
        memory does not grow with the ensemble.

        Parameters
        ----------
        blocks : sequence of Tile
        precision : Precision
        scratch : Scratch
        seen : callable
            Takes a block and its outputs, in the order of the blocks, in another thread.
        """
        timings = Timings()
        for model in range(len(self.settings.models)):
            step = ModelPass(self.settings, model, self.view, self.state, precision)
            last = model == len(self.settings.models) - 1

            def store(block: Tile, outputs: NDArray[np.float32], last: bool = last) -> None:
                scratch.put(SCORES, block.number, outputs)
                if last:
                    seen(block, outputs)

            def decode(block: Tile, rows: Any, step: ModelPass = step) -> NDArray[np.float32]:
                before = scratch.get(SCORES, block.number) if step.model else None
                return step.decode(block, rows, before)

            sizes = step.net.batch_sizes(self.settings.batch)
            timings += run_batches(
                blocks, step.load, step.compute, store, decode=decode, batch=sizes
            )
        report(timings)
        return timings

    def sums(self, member: int, number: int) -> list[Array]:
        """What each block of the tile adds to a statistic of the frame."""
        model, variant = self.settings.members[member]
        step = ModelPass(self.settings, model, self.view, self.state, "float32")
        found = step.found(member, number)
        sums: list[Array] = []
        report(
            run_batches(
                self.own(),
                step.load,
                lambda windows, blocks: [
                    step.net.collect(windows, step.place(blocks[0])[1], variant, found)
                ],
                lambda _, total: sums.append(total),
                batch=1,
            )
        )
        return sums

    def apart(self) -> list[NDArray[np.float64]]:
        """How far outputs in scratch are from those of other windows, for blocks that are checked.

        The other window holds the middle of the block, and is computed in float32.

        Returns
        -------
        list of ndarray of shape (\\*S), float64
            The largest distance at every pixel of the middle of a block.
        """
        exact = self.settings.precision == "float32"
        if exact and self.blocks.tiles_per_frame == 1:
            return []
        chosen = {b.number: b for b in self.own() if b.number % CHECK_EVERY == 0}
        parts = [replace(b, core=_middle(b.core, self.settings.stride_px)) for b in chosen.values()]
        found: list[NDArray[np.float64]] = []

        def compare(part: Tile, again: NDArray[np.float32]) -> None:
            outputs = self.view.scratch.get(SCORES, part.number)
            known = outputs[(slice(None), *part.core.within(chosen[part.number].core))]
            found.append(np.abs(known.astype(np.float64) - again).max(axis=0))

        self.keep(parts, "float32", MemoryScratch(), compare)
        return found


def _middle(core: Box, stride_px: tuple[int, ...]) -> Box:
    """The middle of a block, on the stride."""
    start, stop = [], []
    for a, b, s in zip(core.start, core.stop, stride_px, strict=True):
        side = max(s, (b - a) // CHECK_PART // s * s)
        first = a + (b - a - min(side, b - a)) // 2 // s * s
        start.append(first)
        stop.append(min(first + side, b))
    return Box(tuple(start), tuple(stop))
