"""Region growing from seeds.

1. survey     the threshold that peaks lie beyond, where they are the seeds
2. seeds      positions and grey values of the seeds
3. grow ...   patches of regions, from tile to tile until no face is reached anew
4. meet       patches that touch are one region; with `rule: adaptive` its mean gives a new
              interval, and 3 and 4 repeat for the seeds whose interval has changed
5. paint      every pixel to the first seed whose region holds it
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from pipeline.foreground import THRESHOLD
from pipeline.growing.intervals import OPEN
from pipeline.growing.painting import PAINTED, Paint
from pipeline.growing.regions import PASSES, GrowthRule, Meet
from pipeline.growing.spread import ACTIVE, Spread, iteration_of
from pipeline.methods.base import Context, Method, Round, State
from pipeline.methods.checks import check_connectivity, check_single_channel, or_full
from pipeline.seed_rounds import CENTRE, COMPANION
from pipeline.seeds import AnySeeds, PeakSeeds


class RegionGrowing(Method):
    """Objects are what hangs together with a seed and has grey values close to it.

    `seeds`: `{from: peaks, ...}`, `{from: points, file: ...}`, `{from: labels, file: ...}` or
    `{from: label, label: ...}`, see `pipeline.seeds`. `tolerance`: a region is the component,
    around its seed, of the pixels whose grey value is at most this far from the seed's; a seed of
    several pixels has their mean, and the components that hold any of them. `rule`: "adaptive" then
    moves the middle of the interval to the mean of the region, again and again, until no interval
    changes or it was moved `iterations` times; the interval is always wide enough to hold the
    seed's own value. `spread`: half the width of the moved intervals, in standard deviations of the
    region, instead of `tolerance`. `connectivity`: 4 or 8 in 2D; 6, 18 or 26 in 3D; by default 8
    and 26.

    Regions are defined each by itself. A pixel of several belongs to the seed that comes first: in
    the file, by its number, or by the raster order of the peaks.

    Exact for any tiling: intervals follow from integer sums, and regions are united where their
    parts touch.

    References
    ----------
    Adams and Bischof, Seeded region growing, 1994, doi:10.1109/34.295913
    """

    method: Literal["region_growing"]
    tolerance: float = Field(ge=0, allow_inf_nan=False)
    seeds: AnySeeds = PeakSeeds()
    rule: Literal["tolerance", "adaptive"] = "tolerance"
    iterations: int = Field(default=10, ge=1, le=100)
    spread: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    connectivity: Literal[4, 8, 6, 18, 26] | None = None

    seconds_per_megapixel: ClassVar[float] = 0.2

    @model_validator(mode="after")
    def _spread_needs_regions(self) -> Self:
        if self.spread is not None and self.rule != "adaptive":
            raise ValueError("`spread` is that of a grown region; it needs `rule: adaptive`")
        return self

    def next_round(self, state: State, context: Context) -> Round | None:
        gathering = self.seeds.next_round(state, context)
        if gathering is not None:
            return gathering
        connectivity = or_full(self.connectivity, context.grid.ndim)
        if PASSES in state and not state[OPEN].any():
            by_number = self.parent_label() is not None
            return None if PAINTED in state else Paint(connectivity, by_number)
        if ACTIVE not in state or len(state[ACTIVE]):
            return Spread(self.seeds, self.tolerance, connectivity, context.grid)
        iterations = self.iterations if self.rule == "adaptive" else 0
        rule = GrowthRule(self.tolerance, self.spread, iterations)
        return Meet(rule, connectivity, context.grid)

    def is_dataset_wide(self) -> bool:
        return self.seeds.is_dataset_wide()

    def companions(self) -> dict[str, str]:
        return self.seeds.companions()

    def earlier_labels(self) -> dict[str, str]:
        return self.seeds.earlier_labels()

    def parent_label(self) -> str | None:
        return self.earlier_labels().get(COMPANION)

    def check(self, context: Context) -> None:
        check_single_channel(context)
        check_connectivity(self.connectivity, context)
        self.seeds.check(context)

    def halo_px(self) -> int:
        return self.seeds.halo_px()

    def peak_bytes_per_px(self) -> float:
        # values 8, who owns a pixel 4, queue 4, marks 4, their places 16; painted 4, labels 4
        return 40.0

    def least_passes(self) -> int:
        return self.seeds.least_passes() + 1

    def passes(self) -> str:
        return f"{self.least_passes()}, and tiles that regions reach a few more times"

    def certificate(self, state: State) -> dict[str, Any]:
        found: dict[str, Any] = {
            "exact": True,
            "rule": "regions grown from tile to tile until no face was reached anew",
            "seeds": len(state[CENTRE]),
            "passes": int(state[PASSES]),
            "rounds": iteration_of(state),
        }
        if THRESHOLD in state:
            found["threshold"] = float(state[THRESHOLD][-1])
        return found
