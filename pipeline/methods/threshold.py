"""Threshold and connected components."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from pipeline.foreground import THRESHOLD, ForegroundRule
from pipeline.kernels.components import components
from pipeline.methods.base import Context, Method, Output, Round, State, TileLabels
from pipeline.methods.checks import check_connectivity, check_single_channel, or_full
from pipeline.records import Record
from pipeline.view import TileView

DONE = "threshold.done"


class Threshold(Method):
    """Objects are the connected components of the pixels beyond one grey value.

    `connectivity`: 4 or 8 in 2D; 6, 18 or 26 in 3D; by default 8 and 26.

    Exact: components of neighbouring tiles are united where they touch. Numbers equal those of
    `scipy.ndimage.label` on the whole image.
    """

    method: Literal["threshold"]
    foreground: ForegroundRule = ForegroundRule()
    connectivity: Literal[4, 8, 6, 18, 26] | None = None

    def next_round(self, state: State, context: Context) -> Round | None:
        survey = self.foreground.next_round(state)
        if survey is not None:
            return survey
        if DONE in state:
            return None
        return LabelComponents(self.foreground, or_full(self.connectivity, context.grid.ndim))

    def is_dataset_wide(self) -> bool:
        return self.foreground.is_dataset_wide()

    def check(self, context: Context) -> None:
        check_single_channel(context)
        check_connectivity(self.connectivity, context)

    def halo_px(self) -> int:
        return 0

    def peak_bytes_per_px(self) -> float:
        # mask 1, components 4, their transposed copy 4, kept labels 4
        return 13.0

    def least_passes(self) -> int:
        return 2 if self.foreground.value == "otsu" else 1

    def certificate(self, state: State) -> dict[str, Any]:
        found = {} if THRESHOLD not in state else {"threshold": float(state[THRESHOLD])}
        return {"exact": True, "rule": "components united over touching faces", **found}


@dataclass(frozen=True)
class LabelComponents(Round):
    """Label the components of every core."""

    foreground: ForegroundRule
    connectivity: int

    name: ClassVar[str] = "components"

    def map(self, view: TileView, state: State) -> Output:
        mask = self.foreground.mask(view, state)
        labels, _ = components(mask, self.connectivity)
        return Output({}, TileLabels(labels, touching=self.connectivity))

    def combine(self, records: object) -> Record:
        return {}

    def reduce(self, records: object, state: State) -> State:
        return {**state, DONE: np.array(1)}
