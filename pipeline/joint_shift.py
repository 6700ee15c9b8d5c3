"""Mean shift of pixels in place and colour, and the regions that they form.

window = core + ring of 1 px + all that its pixels can climb over
-> colours at which the core and its ring come to rest
-> regions of similar neighbours in the core, linked to similar pixels of the ring
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.features import ColorSpace, features
from pipeline.grid import linear_indices
from pipeline.kernels.mean_shift import color_limit, filtered_colors
from pipeline.kernels.similar import similar_regions
from pipeline.methods.base import EmittingRound, Output, State, TileLabels
from pipeline.modes import BANDWIDTH
from pipeline.view import TileView


@dataclass(frozen=True)
class JointShift:
    """How far pixels climb, see `pipeline.kernels.mean_shift`.

    `bandwidth`: None takes the surveyed one.
    """

    space: ColorSpace
    spatial_px: int
    iterations: int
    bandwidth: float | None

    @property
    def reach_px(self) -> int:
        """How far away pixels change a colour: each step sees `spatial_px` px more."""
        return self.spatial_px * self.iterations

    def bandwidth_of(self, state: State) -> float:
        return float(state[BANDWIDTH]) if self.bandwidth is None else self.bandwidth

    def filtered(self, view: TileView, state: State, halo_px: int = 0) -> NDArray[Any]:
        """Filtered colours of a window, (C, \\*window); NaN where the image has no value."""
        wide_px = halo_px + self.reach_px
        wide = view.window(wide_px)
        colors = features(view, self.space, wide_px)
        valid = view.valid(wide_px)
        if valid is not None:
            colors = np.where(valid, colors, np.nan)
        return filtered_colors(
            colors,
            wide.start,
            view.window(halo_px).within(wide),
            self.spatial_px,
            self.bandwidth_of(state),
            self.iterations,
        )


@dataclass(frozen=True)
class LabelRegions(EmittingRound):
    """Label the regions of every core; links say where they go on."""

    shift: JointShift
    connectivity: int

    name: ClassVar[str] = "regions"
    done: ClassVar[str] = "joint_shift.done"

    def map(self, view: TileView, state: State) -> Output:
        window = view.window(1)
        core = view.tile.core.within(window)
        colors = self.shift.filtered(view, state, 1)
        whole = np.dtype(view.context.dtype).kind in "iu" and self.shift.space == "raw"
        limit = color_limit(self.shift.bandwidth_of(state), whole)
        labels, links = similar_regions(colors, core, limit, self.connectivity)
        links[:, 1] = linear_indices(view.tile.frame, view.grid.shape, window, links[:, 1])
        return Output({}, TileLabels(labels, links=links))
