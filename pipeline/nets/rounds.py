"""The rounds of a network: statistics of whole frames, then its outputs, block by block.

[survey of grey values] -> [statistic 0] -> [statistic 1] ... -> outputs of every block to scratch
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.blocks import block_grid, owners
from pipeline.grid import Tile, TileGrid
from pipeline.methods.base import Output, Round, State
from pipeline.nets.device import device_name
from pipeline.nets.margins import LIMITS, count_distances, count_margins
from pipeline.nets.reading import class_scores
from pipeline.nets.settings import Settings, statistic_key, totals
from pipeline.records import Record
from pipeline.view import TileView

DONE = "network.done"
EPSILON = "network.epsilon"
MARGINS = "network.margins"
PIXELS = "network.pixels"
CHECKED = "network.checked"
CHECKED_PIXELS = "network.checked_pixels"
NEAR = "network.near"
DEVICES = "network.devices"
HALVINGS = "network.halvings"
COUNTS = (PIXELS, CHECKED, CHECKED_PIXELS, HALVINGS)

FRAMES = "frames"
NUMBERS = "numbers"
SUMS = "sums"


class BlockRound(Round):
    """A round that visits the blocks of a network by the tiles that hold their first pixels."""

    settings: Settings

    device: Literal["cpu", "gpu"] = "gpu"

    def tiles(self, grid: TileGrid, state: State) -> Sequence[int]:
        blocks = block_grid(grid, self.settings.block_px)
        return owners(np.arange(len(blocks)), blocks, grid)


@dataclass(frozen=True)
class Statistic(BlockRound):
    """Sum up one statistic of every frame.

    Sums are of blocks, in 64 bits, and are added in the order of blocks: no trace of tiles.
    """

    settings: Settings
    member: int
    number: int

    name: ClassVar[str] = "statistic"

    def map(self, view: TileView, state: State) -> Output:
        from pipeline.nets.evaluation import Evaluation  # noqa: PLC0415  needs torch

        evaluation = Evaluation(self.settings, view, state)
        own = evaluation.own()
        sums = evaluation.sums(self.member, self.number)
        return Output(
            {
                FRAMES: np.array([block.frame for block in own]),
                NUMBERS: np.array([block.number for block in own]),
                SUMS: np.stack(sums),
            }
        )

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        known = [record for _, record in records]
        parts = (np.concatenate([r[key] for r in known]) for key in (FRAMES, NUMBERS, SUMS))
        return {**state, statistic_key(self.member, self.number): totals(*parts)}


@dataclass(frozen=True)
class Infer(BlockRound):
    """Keep the scores of every block, and measure how far rounding can move them."""

    settings: Settings

    name: ClassVar[str] = "infer"

    def map(self, view: TileView, state: State) -> Output:
        from pipeline.nets.evaluation import Evaluation  # noqa: PLC0415  needs torch

        evaluation = Evaluation(self.settings, view, state)
        own = evaluation.own()
        margins = _none()

        def count(block: Tile, outputs: NDArray[np.float32]) -> None:
            nonlocal margins
            margins = margins + count_margins(class_scores(self.settings.cards[0], outputs))

        timings = evaluation.keep(own, self.settings.precision, view.scratch, count)
        apart = evaluation.apart()
        return Output(
            {
                MARGINS: margins,
                EPSILON: np.array(largest([float(block.max()) for block in apart])),
                NEAR: sum((count_distances(block) for block in apart), _none()),
                PIXELS: np.array(sum(block.core.size for block in own)),
                CHECKED: np.array(len(apart)),
                CHECKED_PIXELS: np.array(sum(block.size for block in apart)),
                DEVICES: np.array([device_name()]),
                HALVINGS: np.array(int(timings.halvings)),
            }
        )

    def combine(self, records: Iterable[Record]) -> Record:
        known = list(records)
        return {
            **{key: sum((r[key] for r in known), _none()) for key in (MARGINS, NEAR)},
            **{key: np.array(sum(int(r[key]) for r in known)) for key in COUNTS},
            EPSILON: np.array(largest([float(r[EPSILON]) for r in known])),
            DEVICES: np.unique(np.concatenate([r[DEVICES] for r in known])),
        }

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        return {**state, **self.combine(r for _, r in records), DONE: np.array(1)}


def _none() -> NDArray[np.int64]:
    """Nothing counted at any of `LIMITS`."""
    return np.zeros(len(LIMITS), np.int64)


def largest(found: Sequence[float]) -> float:
    """The largest of some numbers, 0 of none; NaN if one is."""
    return float(np.max(found)) if found else 0.0
