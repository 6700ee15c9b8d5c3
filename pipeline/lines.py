"""Lines of background between objects that touch, drawn when the whole objects are known.

The objects are joined and numbered first. A pixel with a neighbour of a smaller number then becomes
background, so that the line lies in the later of two objects. What is left is joined again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pipeline.kernels.lines import without_lines
from pipeline.methods.base import EmittingRound, JoinRound, Output, Round, State, TileLabels
from pipeline.view import TileView

JOINED = "lines.joined"
CUT = "lines.cut"


def lines_round(state: State, connectivity: int) -> Round | None:
    """The next round of drawing lines; None when they are drawn."""
    if JOINED not in state:
        return JoinRound(JOINED)
    return None if CUT in state else CutLines(connectivity)


@dataclass(frozen=True)
class CutLines(EmittingRound):
    """Take the lines out of the objects of each core."""

    connectivity: int

    name: ClassVar[str] = "lines"
    done: ClassVar[str] = CUT

    def map(self, view: TileView, state: State) -> Output:
        core = view.tile.core.within(view.window(1))
        left = without_lines(view.objects(1), self.connectivity)[core]
        found, number = np.unique(left, return_inverse=True)
        # The background is number 0, whether it occurs or not.
        labels = number.reshape(left.shape).astype(np.uint32) + np.uint32(found[0] > 0)
        return Output({}, TileLabels(labels, keys=found[found > 0].astype(np.int64)))
