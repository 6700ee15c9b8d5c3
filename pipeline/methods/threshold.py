"""Thresholds: one or several grey values for the whole image or dataset."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.foreground import THRESHOLD, ForegroundRule
from pipeline.methods.base import Context, Round, State
from pipeline.methods.checks import check_single_channel
from pipeline.methods.classifier import Classifier, OutputKind
from pipeline.view import TileView


class Threshold(Classifier):
    """Objects are the connected components of the pixels beyond one grey value.

    `foreground`: the value, or how to find it. With `output: classes` the map of the pixels below
    and above is published; "multi_otsu" gives as many classes as it is asked for.

    Exact: components of neighbouring tiles are united where they touch. Numbers equal those of
    `scipy.ndimage.label` on the whole image.
    """

    method: Literal["threshold"]
    foreground: ForegroundRule = ForegroundRule()
    output: OutputKind = "labels"

    def class_count(self) -> int:
        return self.foreground.classes

    def default_names(self) -> tuple[str, ...]:
        return ("dark", "bright") if self.class_count() == 2 else super().default_names()

    def model_round(self, state: State, context: Context) -> Round | None:
        return self.foreground.next_round(state, context)

    def classify(self, view: TileView, state: State, halo_px: int = 0) -> NDArray[np.uint8]:
        return self.foreground.classes_of(view.image(halo_px)[0], view.valid(halo_px), state)

    def mask(self, view: TileView, state: State, halo_px: int = 0) -> NDArray[np.bool_]:
        if self.object_classes is not None:
            return super().mask(view, state, halo_px)
        return self.foreground.mask(view, state, halo_px)

    def dark_objects(self) -> bool:
        return self.foreground.objects == "dark"

    def is_dataset_wide(self) -> bool:
        return self.foreground.is_dataset_wide()

    def check(self, context: Context) -> None:
        super().check(context)
        check_single_channel(context)

    def peak_bytes_per_px(self) -> float:
        # mask 1, components 4, their transposed copy 4, kept labels 4
        return 13.0

    def least_passes(self) -> int:
        return 2 if self.foreground.is_surveyed else 1

    def certificate(self, state: State) -> dict[str, Any]:
        united = "components united over touching faces"
        rule = united if self.output == "labels" else "one threshold for all tiles"
        found: dict[str, Any] = {"exact": True, "rule": rule}
        if THRESHOLD in state:
            values = state[THRESHOLD].tolist()
            found |= {"threshold": values[0]} if len(values) == 1 else {"thresholds": values}
        return found
