"""Marker-controlled watershed.

1. otsu       the threshold of the whole image, unless a value is given
2. flood      the components that a window around each core holds whole: usually all of them
3. regions    \\
4. peaks       |  only for components that no window holds: their peaks as a whole, keys relaxed
5. relax ...   |  from tile to tile until no face changes, roots followed across tiles
6. resolve    /
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from pipeline.foreground import THRESHOLD, ForegroundRule
from pipeline.kernels.smoothing import radius_px
from pipeline.methods.base import Context, Method, Round, State
from pipeline.methods.checks import check_connectivity, check_single_channel, or_full
from pipeline.watershed.flood import FLOODED, MARGIN_PX, OPEN_TILE, FloodWindows
from pipeline.watershed.landscape import Landscape
from pipeline.watershed.open import MARKERS, REGIONS_MARKED, FindPeaks, MarkRegions, open_tiles
from pipeline.watershed.relax import ACTIVE, ITERATION, RESOLVED, Relax, Resolve


class Watershed(Method):
    """Split touching objects where the flood from their markers meets.

    `foreground`: which pixels are flooded, and whether objects are bright or dark.
    `masked`: false floods every finite pixel. `landscape`: "distance" floods from the middle of
    each object (distance to the background), "intensity" from its brightest (or darkest) spot.
    `min_distance_px`: peaks of one component are farther apart than this (largest coordinate
    difference); the highest wins, then the first in raster order. `smooth_px`: standard deviation
    of the smoothing of distances within a component; grey values are smoothed by `preprocess`.
    `max_distance_px`: distances count up to here. `connectivity`: 4 or 8 in 2D; 6, 18 or 26 in
    3D; by default 8 and 26.

    Exact for any tiling: see `pipeline.kernels.flood` for the definition and its ties.

    References
    ----------
    Meyer, Topographic distance and watershed lines, 1994, doi:10.1016/0165-1684(94)90060-4
    """

    method: Literal["watershed"]
    foreground: ForegroundRule = ForegroundRule()
    masked: bool = True
    landscape: Literal["distance", "intensity"] = "distance"
    min_distance_px: int = Field(default=5, ge=0, le=200)
    smooth_px: float = Field(default=1.0, ge=0, le=50)
    max_distance_px: int = Field(default=256, ge=1, le=2000)
    connectivity: Literal[4, 8, 6, 18, 26] | None = None

    seconds_per_megapixel: ClassVar[float] = 0.25

    @model_validator(mode="after")
    def _distance_needs_a_mask(self) -> Self:
        if not self.masked and self.landscape == "distance":
            raise ValueError(
                "without a mask there is no background to take distances to; "
                "use `landscape: intensity` or `masked: true`"
            )
        return self

    def next_round(self, state: State, context: Context) -> Round | None:
        survey = self.foreground.next_round(state, context) if self.masked else None
        if survey is not None:
            return survey
        landscape = self._landscape(context)
        if FLOODED not in state:
            return FloodWindows(landscape, context.grid)
        if OPEN_TILE not in state or RESOLVED in state:
            return None
        if REGIONS_MARKED not in state:
            return MarkRegions(landscape)
        if MARKERS not in state:
            return FindPeaks(landscape, context.grid)
        if ACTIVE not in state or len(state[ACTIVE]):
            return Relax(landscape, context.grid)
        return Resolve(landscape)

    def _landscape(self, context: Context) -> Landscape:
        return Landscape(
            self.foreground,
            self.masked,
            self.landscape,
            self.smooth_px,
            self.min_distance_px,
            self.max_distance_px,
            or_full(self.connectivity, context.grid.ndim),
        )

    def is_dataset_wide(self) -> bool:
        return self.masked and self.foreground.is_dataset_wide()

    def check(self, context: Context) -> None:
        check_single_channel(context)
        check_connectivity(self.connectivity, context)

    def halo_px(self) -> int:
        return MARGIN_PX[1]

    def wide_halo_px(self) -> int:
        """Halo of the rounds for components that no window holds."""
        support = self.max_distance_px if self.landscape == "distance" else 0
        return support + radius_px(self.smooth_px or 0.01) + max(1, self.min_distance_px)

    def peak_bytes_per_px(self) -> float:
        # mask 1, components 4 + 4, region 4, squared distance 4, steps 4, smoothed 4 + 4,
        # altitude 4, root, level and hops 12, runs and queue 8, labels 4 + 4
        return 62.0

    def scratch_bytes_per_px(self) -> float:
        return 4.0 + 12.0

    def least_passes(self) -> int:
        return 2 if self.masked and self.foreground.is_surveyed else 1

    def passes(self) -> str:
        return f"{self.least_passes()}, and for components larger than a window 3 + rounds"

    def certificate(self, state: State) -> dict[str, Any]:
        found: dict[str, Any] = {
            "exact": True,
            "rule": "whole components in windows; larger ones relaxed to the fixed point of keys",
        }
        if THRESHOLD in state:
            found["threshold"] = self.foreground.limit(state)
        if OPEN_TILE in state:
            found["open_tiles"] = len(open_tiles(state))
            found["relaxations"] = int(state[ITERATION])
        return found
