"""Clusterings: one model of a sample of the pixels' features, applied to all pixels."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.features import ColorSpace, FeatureSample, check_space
from pipeline.methods.base import Context, Round, State
from pipeline.methods.classifier import Classifier


class Clustering(Classifier):
    """Fields that clusterings have in common.

    `k`: number of classes. `color_space`: "raw" takes all selected channels as they are, "lab" red,
    green and blue as CIE L*a*b*. `restarts`: the best of so many beginnings. `sample_px`: the model
    is fitted on about so many pixels an image, chosen by the hash of their coordinates; smaller
    images are taken whole. `scope`: one model an "image" or one for the "dataset".
    """

    k: int = Field(default=3, ge=1, le=64)
    color_space: ColorSpace = "raw"
    restarts: int = Field(default=4, ge=1, le=100)
    max_iterations: int = Field(default=300, ge=1, le=10_000)
    sample_px: int = Field(default=100_000, ge=1000, le=20_000_000)
    seed: int = Field(default=0, ge=0, lt=2**32)
    scope: Literal["image", "dataset"] = "image"

    #: Key of the state that only a fitted model has.
    fitted: ClassVar[str]

    @abstractmethod
    def fit(self, rows: NDArray[np.float64], counts: NDArray[np.int64]) -> State:
        """Fit the model to different rows (N, C) and how often each occurs.

        Where there are fewer rows than classes, the last classes stay empty.
        """

    def class_count(self) -> int:
        return self.k

    def model_round(self, state: State, context: Context) -> Round | None:
        if self.fitted in state:
            return None
        return FeatureSample(self.color_space, self.sample_px, self.fit, self.scope)

    def is_dataset_wide(self) -> bool:
        return self.scope == "dataset"

    def check(self, context: Context) -> None:
        super().check(context)
        check_space(self.color_space, context)

    def peak_bytes_per_px(self) -> float:
        # three channels of 8 in L*a*b*, raw ones of 4, classes 1, components 12
        return 52.0

    def least_passes(self) -> int:
        return 2
