"""Hysteresis: faint pixels count where they hang together with strong ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import model_validator

from pipeline.foreground import THRESHOLD, ForegroundRule
from pipeline.kernels.components import components
from pipeline.methods.base import Context, EmittingRound, Method, Output, Round, State, TileLabels
from pipeline.methods.checks import check_connectivity, check_single_channel, or_full
from pipeline.view import TileView

DONE = "hysteresis.done"


class Hysteresis(Method):
    """Objects are components beyond a weak threshold that hold a pixel beyond a strong one.

    `weak`, `strong`: grey values; by default the two thresholds of a three-class Otsu, surveyed
    over the image or, with `scope: dataset`, over all images. `objects`: "bright" takes pixels
    above the values, "dark" those below or equal, so that `strong` is then the lower one.
    `connectivity`: 4 or 8 in 2D; 6, 18 or 26 in 3D; by default 8 and 26.

    Exact: components are united over touching faces first, and kept or dropped as a whole.

    References
    ----------
    Canny, A computational approach to edge detection, 1986, doi:10.1109/TPAMI.1986.4767851
    """

    method: Literal["hysteresis"]
    weak: float | None = None
    strong: float | None = None
    objects: Literal["bright", "dark"] = "bright"
    scope: Literal["image", "dataset"] = "image"
    connectivity: Literal[4, 8, 6, 18, 26] | None = None

    @model_validator(mode="after")
    def _two_values(self) -> Self:
        if (self.weak is None) != (self.strong is None):
            raise ValueError("give both `weak` and `strong`, or none of them")
        if self.weak is not None and self.strong is not None:
            wrong = self.weak > self.strong if self.objects == "bright" else self.weak < self.strong
            if wrong:
                raise ValueError(
                    f"weak {self.weak:g} is stricter than strong {self.strong:g} for "
                    f"{self.objects} objects; swap them"
                )
        return self

    def next_round(self, state: State, context: Context) -> Round | None:
        survey = self._survey().next_round(state, context) if self.weak is None else None
        if survey is not None:
            return survey
        if DONE in state:
            return None
        return LabelWeak(self, or_full(self.connectivity, context.grid.ndim))

    def rules(self, state: State) -> tuple[ForegroundRule, ForegroundRule]:
        """The weak and the strong rule."""
        weak, strong = self.weak, self.strong
        if weak is None or strong is None:
            values = state[THRESHOLD].tolist()
            values = values if self.objects == "bright" else values[::-1]
            weak, strong = values[0], values[-1]
        return (
            ForegroundRule(value=weak, objects=self.objects),
            ForegroundRule(value=strong, objects=self.objects),
        )

    def _survey(self) -> ForegroundRule:
        return ForegroundRule(value="multi_otsu", classes=3, scope=self.scope)

    def is_dataset_wide(self) -> bool:
        return self.weak is None and self.scope == "dataset"

    def check(self, context: Context) -> None:
        check_single_channel(context)
        check_connectivity(self.connectivity, context)

    def halo_px(self) -> int:
        return 0

    def peak_bytes_per_px(self) -> float:
        # masks 2, components 4, their transposed copy 4, kept labels 4
        return 14.0

    def least_passes(self) -> int:
        return 2 if self.weak is None else 1

    def certificate(self, state: State) -> dict[str, Any]:
        weak, strong = (rule.value for rule in self.rules(state))
        return {
            "exact": True,
            "rule": "components united over touching faces, kept as a whole",
            "weak": weak,
            "strong": strong,
        }


@dataclass(frozen=True)
class LabelWeak(EmittingRound):
    """Label the components of weak pixels in every core; those with a strong one are kept."""

    method: Hysteresis
    connectivity: int

    name: ClassVar[str] = "components"
    done: ClassVar[str] = DONE

    def map(self, view: TileView, state: State) -> Output:
        image, valid = view.image()[0], view.valid()
        weak, strong = (rule.of_pixels(image, valid, state) for rule in self.method.rules(state))
        labels, count = components(weak, self.connectivity)
        kept = np.zeros(count + 1, np.bool_)
        kept[labels[strong]] = True
        return Output({}, TileLabels(labels, touching=self.connectivity, kept=kept[1:]))
