"""SLIC superpixels: k-means of place and colour, each centre within its surroundings.

1. mask        what the mask needs to know of the whole image, if there is one
2. seeds       the regular grid, moved off the edges; the range of values
3. move ...    pixels to the nearest centre, centres to the mean of their pixels, in step
4. parts       the last assignment, in connected parts
5. join, borders, merge    parts that are too small go to a neighbour
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from pipeline.errors import MethodError
from pipeline.features import ColorSpace, check_space
from pipeline.lattice import Lattice
from pipeline.lengths import Length, Lengths
from pipeline.methods.base import Context, Method, Round, State
from pipeline.methods.checks import check_spacing
from pipeline.methods.masks import ObjectMask
from pipeline.slic.centres import BYTES, PLACES
from pipeline.slic.colors import VALUES, Colors
from pipeline.slic.rounds import (
    LABELED,
    MOVED,
    MOVES,
    Clusters,
    LabelParts,
    MoveCentres,
    PlaceSeeds,
)
from pipeline.slic.small_parts import SMALL, small_parts_round

#: Centres are numbered in 32 bits.
MOST_CENTRES = 2**31 - 1
#: Side of a cell in px where neither it nor the number of segments is given.
DEFAULT_SIZE_PX = 20.0


class Slic(Method):
    """Superpixels: compact regions of similar colour, of nearly equal size.

    `segments`: about how many in a frame; or `size_px`: their side S (default 20). `compactness`:
    the difference of colour that counts as much as a way of S, where the image's values, from the
    smallest to the largest (or `value_range`), are mapped to 0..100, and L*a*b* is as it is; small
    values follow edges, large ones give squares. `variant: slico` adapts it: after the first
    iteration it is the largest difference of colour that each cluster had, and at least 1.
    `iterations`: how often pixels are assigned; `tolerance`: stop earlier, when no centre has moved
    farther than this (in px, times `spacing`). `color_space: lab`: red, green and blue as CIE
    L*a*b*. `mask`: segment only these pixels; a threshold or any classifying method, as the
    watershed's `foreground`. `spacing`: size of a pixel along each axis, such as [3, 1, 1] for
    volumes with thick planes; S is in the same unit. `size_um`: S in um, with the image's own
    spacing. `min_size_factor`: connected parts of
    clusters smaller than this share of a mean cell are merged into a neighbour; 0 leaves them.

    Every connected part of a cluster becomes an object. Exact for any tiling: seeds lie on a grid
    of the frame, all tiles assign with the same centres, and sums are integers. See
    `pipeline.kernels.slic` for distances and ties, `pipeline.kernels.small_parts` for merging.

    References
    ----------
    Achanta et al., SLIC superpixels compared to state-of-the-art superpixel methods, 2012,
    doi:10.1109/TPAMI.2012.120
    """

    method: Literal["slic"]
    segments: int | None = Field(default=None, ge=1)
    size_px: float | None = Field(default=None, ge=2, le=1e6)
    size_um: float | None = Field(default=None, gt=0)
    compactness: float = Field(default=10.0, ge=1e-3, le=1e6)
    variant: Literal["slic", "slico"] = "slic"
    iterations: int = Field(default=10, ge=1, le=1000)
    tolerance: float | None = Field(default=None, ge=0)
    color_space: ColorSpace = "raw"
    value_range: tuple[float, float] | None = None
    mask: ObjectMask | None = None
    spacing: tuple[float, ...] | None = None
    min_size_factor: float = Field(default=0.25, ge=0, le=10)

    lengths: ClassVar[Lengths] = {"size_um": Length("size_px", "lattice")}

    @model_validator(mode="after")
    def _fields_fit(self) -> Self:
        if self.segments is not None and (self.size_px, self.size_um) != (None, None):
            raise ValueError("segments and size_px say the same; give one of them")
        if self.value_range is not None:
            low, high = self.value_range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"value_range [{low}, {high}] must be two numbers, smaller first")
            if self.color_space == "lab":
                raise ValueError("value_range is of raw values; leave it out with L*a*b*")
        if any(not 1e-6 <= step <= 1e6 for step in self.spacing or ()):
            raise ValueError(f"spacing {list(self.spacing or ())} must be within 1e-6 to 1e6")
        return self

    def next_round(self, state: State, context: Context) -> Round | None:
        survey = self.mask.model_round(state, context) if self.mask is not None else None
        if survey is not None:
            return survey
        lattice = self._lattice(context)
        if LABELED in state:
            least_px = math.ceil(self.min_size_factor * lattice.cell_px)
            return small_parts_round(state, least_px) if self.min_size_factor else None
        colors = Colors(self.color_space, self.value_range, self.mask)
        clusters = Clusters(lattice, colors, self.compactness, self.variant == "slico")
        if PLACES not in state:
            return PlaceSeeds(clusters)
        return LabelParts(clusters) if self._is_settled(state) else MoveCentres(clusters)

    def _is_settled(self, state: State) -> bool:
        if int(state[MOVES]) == self.iterations - 1:
            return True
        return self.tolerance is not None and bool(state.get(MOVED, np.inf) <= self.tolerance)

    def _lattice(self, context: Context) -> Lattice:
        if self.segments is not None:
            return Lattice.of_count(context.grid.shape, self.segments, self.spacing)
        return Lattice.of_size(context.grid.shape, self.size_px or DEFAULT_SIZE_PX, self.spacing)

    def is_dataset_wide(self) -> bool:
        return self.mask is not None and self.mask.is_dataset_wide()

    def check(self, context: Context) -> None:
        check_space(self.color_space, context)
        if self.mask is not None:
            self.mask.check(context)
        check_spacing("segment.spacing", self.spacing, context)
        count = self.expected_objects(context)
        if count > MOST_CENTRES:
            raise MethodError(
                context.name,
                f"{count} superpixels are more than {MOST_CENTRES}",
                "Choose fewer segments or a larger size_px.",
            )

    def halo_px(self) -> int:
        # A seed moves by 1 px to where the gradient, of 1 px around, is lowest.
        return 2 + (self.mask.support_px() if self.mask is not None else 0)

    def peak_bytes_per_px(self) -> float:
        # pixels 8, colours 4, centre and distance 8, parts 12; L*a*b* 27, colours 12, one more 4
        is_raw = self.color_space == "raw"
        own = 32.0 if is_raw else 44.0
        if self.mask is None:
            return own
        return max(own, (9.0 if is_raw else 28.0) + self.mask.peak_bytes_per_px())

    def expected_objects(self, context: Context) -> int:
        return self._lattice(context).cells * context.grid.frames

    def extra_bytes(self, context: Context) -> int:
        # The state is mapped from its file: at most all its pages are in memory.
        one = BYTES[context.grid.ndim] + 4 * context.channels
        return one * self.expected_objects(context)

    def cpu_seconds_per_megapixel(self) -> float:
        first, each = (0.1, 0.02) if self.color_space == "raw" else (0.3, 0.04)
        return first + each * self.iterations

    def scratch_bytes_per_px(self) -> float:
        colors = 12.0 if self.color_space == "lab" else 0.0
        mask = 1.0 if self.mask is not None else 0.0
        return colors + mask + (8.0 if self.min_size_factor else 4.0)

    def least_passes(self) -> int:
        surveyed = self.mask.least_passes() - 1 if self.mask is not None else 0
        rounds = self.iterations if self.tolerance is None else 1
        return 1 + surveyed + rounds + (2 if self.min_size_factor else 0)

    def passes(self) -> str:
        if self.tolerance is None:
            return super().passes()
        return f"{self.least_passes()} to {self.least_passes() + self.iterations - 1}"

    def certificate(self, state: State) -> dict[str, Any]:
        found: dict[str, Any] = self.mask.certificate(state) if self.mask is not None else {}
        found |= {
            "exact": True,
            "rule": "the same centres for all tiles, moved by sums of integers",
            "iterations": int(state[MOVES]) + 1,
        }
        if self.color_space == "raw" and np.isfinite(state[VALUES]).all():
            found["value_range"] = list(self.value_range or state[VALUES].tolist())
        if MOVED in state:
            found["moved_px"] = float(state[MOVED])
        if SMALL in state:
            found["merged_parts"] = len(state[SMALL])
        return found
