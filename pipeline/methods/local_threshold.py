"""Local thresholds: each pixel is compared with its neighbourhood."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from pipeline.lengths import Length, Lengths
from pipeline.local_surface import SurfaceRule, reach_px, surface
from pipeline.methods.base import Context, Round, State
from pipeline.methods.checks import check_single_channel
from pipeline.methods.classifier import Classifier, OutputKind
from pipeline.view import TileView


class LocalThreshold(Classifier):
    """Objects are brighter (or darker) than their surroundings: for uneven light.

    `rule`: "gaussian", "mean", "median" of a block of `block_px` (odd; or `block_um`) around the
    pixel, "niblack" (mean - k * std) or "sauvola" (mean * (1 + k * (std / r - 1))). `offset` is
    taken from that value. `objects`: "bright" takes pixels above it, "dark" those below or equal.
    `r`: largest possible standard deviation, by default half the range of the image's type.

    Exact: windows overlap by half a block, and sums do not depend on where a window lies.
    """

    method: Literal["local_threshold"]
    rule: SurfaceRule = "gaussian"
    block_px: int = Field(default=51, ge=3, le=501)
    block_um: float | None = Field(default=None, gt=0)
    offset: float = 0.0
    k: float = 0.2
    r: float | None = Field(default=None, gt=0)
    objects: Literal["bright", "dark"] = "bright"
    output: OutputKind = "labels"

    seconds_per_megapixel: ClassVar[float] = 0.3
    lengths: ClassVar[Lengths] = {"block_um": Length("block_px", "odd")}

    @field_validator("block_px")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"a block has a middle: use {value - 1} or {value + 1}")
        return value

    def class_count(self) -> int:
        return 2

    def default_names(self) -> tuple[str, ...]:
        return ("dark", "bright")

    def model_round(self, state: State, context: Context) -> Round | None:
        return None

    def classify(self, view: TileView, state: State, halo_px: int = 0) -> NDArray[np.uint8]:
        classes = self._is_bright(view, halo_px).astype(np.uint8)
        classes += 1
        valid = view.valid(halo_px)
        return classes if valid is None else classes * valid

    def mask(self, view: TileView, state: State, halo_px: int = 0) -> NDArray[np.bool_]:
        if self.object_classes is not None:
            return super().mask(view, state, halo_px)
        bright = self._is_bright(view, halo_px)
        found = bright if self.objects == "bright" else ~bright
        valid = view.valid(halo_px)
        return found if valid is None else found & valid

    def _is_bright(self, view: TileView, halo_px: int) -> NDArray[np.bool_]:
        wide = halo_px + self.support_px()
        image = view.image(wide)[0]
        r = self.r or _half_range(view.job.info.dtype)
        limit = surface(image, self.rule, self.block_px, self.k, r) - self.offset
        cut = view.window(halo_px).within(view.window(wide))
        return np.ascontiguousarray((image > limit)[cut])

    def check(self, context: Context) -> None:
        super().check(context)
        check_single_channel(context)

    def dark_objects(self) -> bool:
        return self.objects == "dark"

    def support_px(self) -> int:
        return reach_px(self.rule, self.block_px)

    def peak_bytes_per_px(self) -> float:
        # image 4, padded 8, its squares 8, sums 8 + 8, mean 8, spread 8, limit 8
        return 60.0

    def certificate(self, state: State) -> dict[str, Any]:
        return {"exact": True, "rule": "windows that overlap by half a block"}


def _half_range(dtype: str) -> float:
    """Half of what an integer type holds; 1 for floats, as scikit-image has it for -1..1."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return 1.0
    limits = np.iinfo(kind)
    return 0.5 * (float(limits.max) - float(limits.min))
