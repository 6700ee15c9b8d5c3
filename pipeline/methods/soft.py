"""Classifiers that can tell how probable each class is, and a prior that smooths them.

scores of every class -> [Potts prior] -> probabilities -> the class of a pixel, objects
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from pipeline.kernels.posterior import mean_field, normalise
from pipeline.methods.base import State, TileClasses
from pipeline.methods.classifier import Classifier
from pipeline.view import TileView


class Smoothing(BaseModel):
    """A Potts prior: neighbours that share a face tend to be of one class.

    `weight`: what a neighbour of the same class adds to the logarithm of a class's probability.
    `iterations`: of mean-field inference; each looks 2 px farther.

    References
    ----------
    Geman, Geman, Stochastic relaxation, Gibbs distributions, and the Bayesian restoration of
    images, 1984, doi:10.1109/TPAMI.1984.4767596
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: float = Field(default=1.0, ge=0, le=1e6)
    iterations: int = Field(default=5, ge=1, le=100)

    @property
    def reach_px(self) -> int:
        """How far away pixels can change a probability."""
        return 2 * self.iterations


class SoftClassifier(Classifier):
    """Fields that classifiers with probabilities have beside those of `Classifier`.

    `output` may be "probabilities". `smoothing`: see `Smoothing`; by default none. It acts on all
    outputs: a pixel belongs to the class that is most probable with its neighbours in view.
    """

    smoothing: Smoothing | None = None

    soft: ClassVar[bool] = True

    @abstractmethod
    def scores(self, view: TileView, state: State, halo_px: int = 0) -> NDArray[np.float64]:
        """Logarithm of what the probability of each class is proportional to.

        Returns
        -------
        ndarray of shape (K, \\*window), float64, C-contiguous
            K may be smaller than the number of classes: the last ones then have probability 0.
            The caller may overwrite it. Any value where the image has none.
        """

    def posterior(self, view: TileView, state: State, halo_px: int = 0) -> TileClasses:
        """Classes of a window and their probabilities."""
        reach = halo_px + self.support_px()
        found = self.scores(view, state, reach)
        valid = view.valid(reach)
        if self.smoothing is None:
            classes = normalise(found, valid)
        else:
            weight, turns = self.smoothing.weight, self.smoothing.iterations
            start = view.window(reach).start
            found, classes = mean_field(found, valid, start, weight, turns)
        cut = view.window(halo_px).within(view.window(reach))
        inside = np.ascontiguousarray(classes[cut])
        probabilities = np.zeros((self.class_count(), *inside.shape), np.float32)
        probabilities[: len(found)] = found[(slice(None), *cut)]
        return TileClasses(inside, probabilities)

    def classify(self, view: TileView, state: State, halo_px: int = 0) -> NDArray[np.uint8]:
        return self.posterior(view, state, halo_px).classes

    def tile_classes(self, view: TileView, state: State) -> TileClasses:
        if self.has_probabilities():
            return self.posterior(view, state)
        return super().tile_classes(view, state)

    def support_px(self) -> int:
        return 0 if self.smoothing is None else self.smoothing.reach_px

    def peak_bytes_per_px(self) -> float:
        # of each class the score 8, and beside it with a prior its probability 8, else what is
        # published 4; classes and masks 3, objects of a class that is known 12
        return 16.0 + self.class_count() * (12.0 if self.smoothing is None else 16.0)

    def cpu_seconds_per_megapixel(self) -> float:
        visits = 0 if self.smoothing is None else self.smoothing.iterations
        if visits or self.has_probabilities():
            visits += 1
        # 0.02 s a megapixel and class: an exponential and a division
        return self.seconds_per_megapixel + 0.02 * visits * self.class_count()
