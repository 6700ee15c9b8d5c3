"""Every pixel goes to the first seed whose region holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pipeline.grey_values import core_values
from pipeline.growing.regions import FINAL, FINAL_BOUNDS
from pipeline.kernels.grow import paint
from pipeline.kernels.neighbours import neighbour_steps
from pipeline.kernels.relabel import numbered
from pipeline.label_keys import label_keys
from pipeline.methods.base import EmittingRound, Output, State, TileLabels
from pipeline.seed_rounds import COMPANION, NUMBER
from pipeline.view import TileView

PAINTED = "growing.painted"


@dataclass(frozen=True)
class Paint(EmittingRound):
    """Flood the final patches of each core once more, seed by seed.

    Parameters
    ----------
    connectivity : int
    by_number : bool
        Whether regions are keyed by the numbers of the label image that their seeds are.
    """

    connectivity: int
    by_number: bool = False

    name: ClassVar[str] = "paint"
    done: ClassVar[str] = PAINTED

    def map(self, view: TileView, state: State) -> Output:
        mine = np.flatnonzero(state[FINAL][:, 0] == view.tile.number)
        mine = mine[np.argsort(state[FINAL][mine, 2], kind="stable")]
        core = view.tile.core
        if len(mine) == 0:
            return Output({}, TileLabels(np.zeros(core.shape, np.uint32)))
        _, root, seed = state[FINAL][mine].T
        seeds, number = np.unique(seed, return_inverse=True)
        painted = paint(
            core_values(view),
            state[FINAL_BOUNDS][mine],
            np.ascontiguousarray(root),
            (number + 1).astype(np.int32),
            neighbour_steps(core.ndim, self.connectivity),
        )
        labels, found = numbered(painted.reshape(core.shape), len(seeds) + 1)
        keys = seeds[found - 1]
        if self.by_number:
            keys = label_keys(view, COMPANION, state[NUMBER][keys])
        return Output({}, TileLabels(labels, keys=keys))
