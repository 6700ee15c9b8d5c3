"""Gaussian mixture model of grey values or colours."""

from __future__ import annotations

import math
import warnings
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.features import features
from pipeline.kernels.classify import log_likelihoods, most_likely
from pipeline.methods.base import State
from pipeline.methods.clustering import Clustering
from pipeline.methods.soft import SoftClassifier
from pipeline.view import TileView

MEANS = "gmm.means"
PRECISIONS = "gmm.precisions"
CONSTANTS = "gmm.constants"


class GaussianMixture(SoftClassifier, Clustering):
    """`k` classes, each a normal distribution; a pixel belongs to the most likely one.

    Unlike k-means, classes may differ in spread and share. `covariance`: "full" lets channels
    vary together, "diagonal" does not. `regularization` is added to the variances. Other fields:
    see `Clustering`; of `smoothing` and `output: probabilities` (the mixture's posterior), see
    `SoftClassifier`. Classes are numbered by the first feature of their mean.

    Exact: one frozen model for all tiles, and windows that hold all that a prior looks at.

    References
    ----------
    Dempster, Laird, Rubin, Maximum likelihood from incomplete data via the EM algorithm, 1977,
    doi:10.1111/j.2517-6161.1977.tb01600.x
    """

    method: Literal["gmm"]
    covariance: Literal["full", "diagonal"] = "full"
    restarts: int = Field(default=1, ge=1, le=100)
    tolerance: float = Field(default=1e-3, gt=0)
    regularization: float = Field(default=1e-6, ge=0)
    sample_px: int = Field(default=50_000, ge=1000, le=5_000_000)

    fitted: ClassVar[str] = MEANS
    seconds_per_megapixel: ClassVar[float] = 0.5

    def fit(self, rows: NDArray[np.float64], counts: NDArray[np.int64]) -> State:
        channels = rows.shape[1]
        if len(rows) == 0:
            nothing = np.empty((0, channels))
            return {
                MEANS: nothing,
                PRECISIONS: np.empty((0, channels, channels)),
                CONSTANTS: np.empty(0),
            }
        # Importing scikit-learn takes a second that only the fit needs.
        from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415
        from sklearn.mixture import GaussianMixture as Mixture  # noqa: PLC0415
        from threadpoolctl import threadpool_limits  # noqa: PLC0415

        model = Mixture(
            n_components=min(self.k, len(rows)),
            covariance_type="full" if self.covariance == "full" else "diag",
            tol=self.tolerance,
            # Of constant values the variance is what is added.
            reg_covar=max(self.regularization, 1e-12),
            max_iter=self.max_iterations,
            n_init=self.restarts,
            random_state=self.seed,
        )
        # Threads add up their sums in the order in which they finish.
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            points = np.repeat(rows, counts, axis=0)
            model.fit(points if len(points) > 1 else np.repeat(points, 2, axis=0))
        order = np.lexsort(model.means_.T[::-1])
        factors = model.precisions_cholesky_[order]
        if self.covariance == "diagonal":
            factors = np.stack([np.diag(row) for row in factors])
        log_det = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
        constants = np.log(model.weights_[order]) + log_det - 0.5 * channels * math.log(2 * math.pi)
        return {
            MEANS: np.ascontiguousarray(model.means_[order]),
            PRECISIONS: np.ascontiguousarray(factors),
            CONSTANTS: constants,
        }

    def scores(self, view: TileView, state: State, halo_px: int = 0) -> NDArray[np.float64]:
        seen = features(view, self.color_space, halo_px)
        return log_likelihoods(seen, state[MEANS], state[PRECISIONS], state[CONSTANTS])

    def classify(self, view: TileView, state: State, halo_px: int = 0) -> NDArray[np.uint8]:
        if self.smoothing is not None:
            return super().classify(view, state, halo_px)
        seen = features(view, self.color_space, halo_px)
        classes = most_likely(seen, state[MEANS], state[PRECISIONS], state[CONSTANTS])
        valid = view.valid(halo_px)
        return classes if valid is None else classes * valid

    def peak_bytes_per_px(self) -> float:
        least = Clustering.peak_bytes_per_px(self)
        if self.smoothing is None and not self.has_probabilities():
            return least
        # features and pixels as in other clusterings, 36, while scores are made
        return max(least, 40.0 + 8.0 * self.k, super().peak_bytes_per_px())

    def certificate(self, state: State) -> dict[str, Any]:
        return {
            "exact": True,
            "rule": "one model of a coordinate-hashed sample for all tiles",
            "means": state[MEANS].tolist(),
        }
