"""Mean shift: classes around modes of grey values or colours, or regions in place and colour."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.features import ColorSpace, FeatureSample, check_space, features
from pipeline.foreground import classes_between
from pipeline.joint_shift import JointShift, LabelRegions
from pipeline.kernels.classify import nearest_centre
from pipeline.lengths import Length, Lengths
from pipeline.methods.base import Context, Round, State
from pipeline.methods.checks import or_full
from pipeline.methods.classifier import Classifier
from pipeline.modes import (
    BANDWIDTH,
    MODES,
    ModeSurvey,
    color_bandwidth,
    color_modes,
    thinned,
)
from pipeline.view import TileView

#: A window of the joint domain reaches at most so far beyond its core.
MOST_REACH_PX = 256


class MeanShift(Classifier):
    """Classes around the modes of grey values or colours; their number follows from `bandwidth`.

    Every value climbs to the mean of all values within `bandwidth` (in units of the preprocessed
    image or of L*a*b*; by default the mean radius that holds 30 % of all pixels) until it rests.
    Modes closer than that to a stronger one are dropped, and at most the `max_classes` strongest
    are kept. A pixel belongs to the nearest mode. Classes are numbered by the first channel of
    their mode, 1 is the darkest; those that are not found stay empty. `scope`: one set of modes an
    "image" or one for the "dataset".

    One channel: all pixels climb, on their histogram. Several, or `color_space: lab` (red, green
    and blue as CIE L*a*b*): about `sample_px` pixels an image climb, chosen by the hash of their
    coordinates; smaller images are taken whole, a dataset's sample is thinned to twice as many.

    `spatial_px`: every pixel climbs in place and colour, up to `iterations` times, to the means of
    the pixels at most `spatial_px` away on every axis and within `bandwidth` of its colour. Then
    `output: labels` are regions: neighbours, under `connectivity`, whose colours have come to rest
    within `bandwidth` of each other, and their neighbours. Every pixel with a value is in one.
    `output: classes` gives the colours at rest to the modes above.

    Exact: one set of modes for all tiles; tiles overlap by all that a pixel can climb over.

    References
    ----------
    Comaniciu, Meer, Mean shift: a robust approach toward feature space analysis, 2002,
    doi:10.1109/34.1000236
    Christoudias, Georgescu, Meer, Synergism in low level vision, 2002,
    doi:10.1109/ICPR.2002.1047421
    """

    method: Literal["mean_shift"]
    bandwidth: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    color_space: ColorSpace = "raw"
    max_classes: int = Field(default=8, ge=1, le=64)
    sample_px: int = Field(default=5000, ge=1000, le=1_000_000)
    spatial_px: int | None = Field(default=None, ge=1)
    spatial_um: float | None = Field(default=None, gt=0)

    lengths: ClassVar[Lengths] = {"spatial_um": Length("spatial_px", "whole")}
    iterations: int = Field(default=5, ge=1, le=100)
    scope: Literal["image", "dataset"] = "image"

    @model_validator(mode="after")
    def _joint_domain(self) -> Self:
        if self.spatial_px is None:
            return self
        reach_px = self.spatial_px * self.iterations
        if reach_px > MOST_REACH_PX:
            raise ValueError(
                f"spatial_px {self.spatial_px} x iterations {self.iterations} reach {reach_px} px "
                f"beyond a tile, at most {MOST_REACH_PX} are allowed; choose fewer of either"
            )
        if self.object_classes is not None:
            raise ValueError(
                "object_classes need classes, but with spatial_px labels are regions; leave out one"
            )
        return self

    @property
    def _shift(self) -> JointShift | None:
        if self.spatial_px is None:
            return None
        return JointShift(self.color_space, self.spatial_px, self.iterations, self.bandwidth)

    @property
    def _needs_modes(self) -> bool:
        return self.spatial_px is None or self.output == "classes"

    @property
    def _is_surveyed(self) -> bool:
        return self._needs_modes or self.bandwidth is None

    def class_count(self) -> int:
        return self.max_classes

    def next_round(self, state: State, context: Context) -> Round | None:
        if self._shift is None or self.output == "classes":
            return super().next_round(state, context)
        finding = self.model_round(state, context)
        if finding is not None:
            return finding
        if LabelRegions.done in state:
            return None
        return LabelRegions(self._shift, or_full(self.connectivity, context.grid.ndim))

    def model_round(self, state: State, context: Context) -> Round | None:
        if BANDWIDTH in state or not self._is_surveyed:
            return None
        if context.channels == 1:
            return ModeSurvey(self.bandwidth, self.max_classes, self.scope)
        return FeatureSample(self.color_space, self.sample_px, self.fit, self.scope)

    def fit(self, rows: NDArray[np.float64], counts: NDArray[np.int64]) -> State:
        """Find bandwidth and modes of different rows (N, C) and how often each occurs."""
        finite = np.isfinite(rows).all(axis=1)
        sample = thinned(rows[finite], counts[finite], 2 * self.sample_px)
        bandwidth = self.bandwidth or color_bandwidth(sample)
        found = sample[:0]
        if self._needs_modes:
            found = color_modes(sample, bandwidth, self.max_classes)
        return {MODES: found, BANDWIDTH: np.array(bandwidth)}

    def classify(self, view: TileView, state: State, halo_px: int = 0) -> NDArray[np.uint8]:
        modes = state[MODES]
        valid = view.valid(halo_px)
        if len(modes) == 0:
            return np.zeros(view.window(halo_px).shape, np.uint8)
        if self._shift is None and modes.ndim == 1:
            borders = ((modes[1:] + modes[:-1]) / 2).tolist()
            return classes_between(borders, view.image(halo_px)[0], valid)
        if self._shift is None:
            colors = features(view, self.color_space, halo_px)
        else:
            colors = self._shift.filtered(view, state, halo_px)
        centres = modes.reshape(len(modes), -1)
        channels = centres.shape[1]
        classes = nearest_centre(colors, np.zeros(channels), np.ones(channels), centres)
        return classes if valid is None else classes * valid

    def is_dataset_wide(self) -> bool:
        return self._is_surveyed and self.scope == "dataset"

    def check(self, context: Context) -> None:
        super().check(context)
        check_space(self.color_space, context)

    def support_px(self) -> int:
        return 0 if self._shift is None else self._shift.reach_px

    def halo_px(self) -> int:
        # Regions are compared with the pixels that tiles have around them.
        return self.support_px() + (self._shift is not None and self.output == "labels")

    def peak_bytes_per_px(self) -> float:
        if self._shift is not None:
            # three channels of 8: as they are, without gaps, at rest; regions need less
            return 80.0
        # image 4, comparison 1, classes 1, components 12, sample 6; L*a*b* 8 a channel
        return 24.0 if self.color_space == "raw" else 52.0

    def cpu_seconds_per_megapixel(self) -> float:
        if self.spatial_px is None:
            return 0.2
        # Half of the steps are spared by pixels that rest early; 6 ns for each pixel of a window.
        return 0.5 * self.iterations * (2 * self.spatial_px + 1) ** 2 * 6e-3

    def least_passes(self) -> int:
        return 1 + self._is_surveyed

    def certificate(self, state: State) -> dict[str, Any]:
        found: dict[str, Any] = {"exact": True}
        if self._shift is not None:
            found["rule"] = "windows that overlap by all that a pixel can climb over"
            found["bandwidth"] = self._shift.bandwidth_of(state)
        else:
            found["rule"] = "one set of modes for all tiles"
        if self._needs_modes:
            found["modes"] = state[MODES].tolist()
        return found
