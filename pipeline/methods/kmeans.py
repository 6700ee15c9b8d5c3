"""k-means clustering of grey values or colours."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.features import features
from pipeline.kernels.classify import nearest_centre
from pipeline.methods.base import State
from pipeline.methods.clustering import Clustering
from pipeline.view import TileView

CENTRES = "kmeans.centres"
SHIFT = "kmeans.shift"
SCALE = "kmeans.scale"


class KMeans(Clustering):
    """`k` classes, each around a centre; a pixel belongs to the nearest.

    `standardize`: divide each channel by its standard deviation. `restarts`: each begins with seeds
    by k-means++. Other fields: see `Clustering`. Classes are numbered by the first feature of their
    centre: 1 is the darkest.

    Exact: one frozen model for all tiles.

    References
    ----------
    Lloyd, Least squares quantization in PCM, 1982, doi:10.1109/TIT.1982.1056489
    Arthur, Vassilvitskii, k-means++: the advantages of careful seeding, 2007.
    """

    method: Literal["kmeans"]
    standardize: bool = False
    tolerance: float = Field(default=1e-4, ge=0)

    fitted: ClassVar[str] = CENTRES
    seconds_per_megapixel: ClassVar[float] = 0.3

    def fit(self, rows: NDArray[np.float64], counts: NDArray[np.int64]) -> State:
        channels = rows.shape[1]
        shift, scale = np.zeros(channels), np.ones(channels)
        if len(rows) == 0:
            return {CENTRES: np.empty((0, channels)), SHIFT: shift, SCALE: scale}
        if self.standardize:
            shift = np.average(rows, axis=0, weights=counts)
            deviation = np.sqrt(np.average((rows - shift) ** 2, axis=0, weights=counts))
            scale = np.where(deviation > 0, deviation, 1.0)
        points = (rows - shift) / scale
        centres = points if len(points) <= self.k else self._centres(points, counts)
        return {CENTRES: centres[np.lexsort(centres.T[::-1])], SHIFT: shift, SCALE: scale}

    def _centres(
        self, points: NDArray[np.float64], counts: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        # Importing scikit-learn takes a second that only the fit needs.
        from sklearn import cluster  # noqa: PLC0415
        from threadpoolctl import threadpool_limits  # noqa: PLC0415

        model = cluster.KMeans(
            n_clusters=self.k,
            init="k-means++",
            n_init=self.restarts,
            max_iter=self.max_iterations,
            tol=self.tolerance,
            random_state=self.seed,
            algorithm="lloyd",
        )
        # Threads add up their sums in the order in which they finish.
        with threadpool_limits(1):
            model.fit(points, sample_weight=counts)
        return np.asarray(model.cluster_centers_, np.float64)

    def classify(self, view: TileView, state: State, halo_px: int = 0) -> NDArray[np.uint8]:
        classes = nearest_centre(
            features(view, self.color_space, halo_px), state[SHIFT], state[SCALE], state[CENTRES]
        )
        valid = view.valid(halo_px)
        return classes if valid is None else classes * valid

    def certificate(self, state: State) -> dict[str, Any]:
        centres = state[CENTRES] * state[SCALE] + state[SHIFT]
        return {
            "exact": True,
            "rule": "one model of a coordinate-hashed sample for all tiles",
            "centres": centres.tolist(),
        }
