"""Texture: how often grey levels occur side by side within an object (co-occurrence)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from pipeline.errors import MethodError
from pipeline.job import ImageJob
from pipeline.kernels.configurations import half_steps
from pipeline.kernels.sparse_counts import pair_counts
from pipeline.measurements.family import ColumnText, Family, Halo, MeasureWindow, unit_halo
from pipeline.measurements.rows import Rows, concatenate, merged

FEATURES = ("contrast", "dissimilarity", "homogeneity", "energy", "correlation", "entropy")
_KEYS = ("label", "channel", "step", "low", "high")


class Texture(Family):
    """Haralick's features, the mean over all directions (4 in 2D, 13 in 3D).

    `levels`: grey levels that `range` is cut into; values outside belong to the first or last.
    `range`: (first, end), the same for all objects and images; by default all values of 8- and
    16-bit pixels. `distance_px`: between the two pixels along each axis of a direction.
    """

    levels: int = Field(default=16, ge=2, le=256)
    range: tuple[float, float] | None = None
    distance_px: int = Field(default=1, ge=1, le=64)

    name: ClassVar[str] = "texture"
    seconds_per_megapixel: ClassVar[float] = 0.09
    bytes_per_px: ClassVar[float] = 110.0
    of_channels: ClassVar[bool] = True

    @field_validator("range")
    @classmethod
    def _some_values(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not (np.isfinite(value).all() and value[0] < value[1]):
            raise ValueError(
                f"{value[0]:g} to {value[1]:g} holds no value; give the first one and the first "
                "one behind, for example [0, 4096]"
            )
        return value

    def halo(self, job: ImageJob) -> Halo:
        return unit_halo(job, self.distance_px)

    def check(self, job: ImageJob) -> None:
        self._range(job)

    def no_rows(self, job: ImageJob) -> Rows:
        # Narrow where it can be: small objects have nearly as many rows as pixels.
        kinds = (np.int64, np.uint16, np.uint8, np.uint8, np.uint8)
        rows: Rows = {key: np.empty(0, kind) for key, kind in zip(_KEYS, kinds, strict=True)}
        return rows | {"pairs": np.empty(0, np.int64)}

    def map(self, window: MeasureWindow) -> Rows:
        halo = self.halo(window.job)
        labels = window.within(halo)
        steps = half_steps(window.ndim) * self.distance_px
        parts = [self.no_rows(window.job)]
        for number, channel in enumerate(window.job.measured):
            levels = self._levels(window.pixels_around(channel, halo), window.job)
            found = pair_counts(labels, levels, window.count, steps, self.levels)
            rows: Rows = {"label": window.names[found[:, 0] - 1]}
            rows["channel"] = np.full(len(found), number, np.uint16)
            for k, key in enumerate(("step", "low", "high", "pairs"), 1):
                rows[key] = found[:, k].astype(np.int64 if key == "pairs" else np.uint8)
            parts.append(rows)
        whole = concatenate(parts)
        return whole | {"pairs": whole["pairs"].astype(np.uint32)}

    def merge(self, rows: Rows) -> Rows:
        return merged(rows, _KEYS)

    def finish(self, job: ImageJob, rows: Rows, objects: Mapping[str, Any]) -> dict[str, Any]:
        label = objects["label"].astype(np.int64)
        steps = len(half_steps(job.grid.ndim))
        columns: dict[str, Any] = {}
        for number, channel in enumerate(job.measured):
            own = {key: column[rows["channel"] == number] for key, column in rows.items()}
            cell = np.searchsorted(label, own["label"]) * steps + own["step"]
            found, known = _features(cell, own, len(label) * steps)
            counted = known.reshape(-1, steps)
            for name in FEATURES:
                each = np.where(known, found[name], 0.0).reshape(-1, steps)
                # Added one by one: a sum along an axis may take another order for other sizes.
                total = functools.reduce(np.add, each.T)
                with np.errstate(invalid="ignore"):
                    mean = total / counted.sum(axis=1)
                columns[f"texture_{name}_{job.info.channels[channel]}"] = mean
        return columns

    def _range(self, job: ImageJob) -> tuple[float, float]:
        if self.range is not None:
            return self.range
        dtype = np.dtype(job.info.dtype)
        if dtype.kind not in "iu" or dtype.itemsize > 2:
            raise MethodError(
                job.name,
                f"measure.texture.range is not given, and its pixels are {dtype.name}",
                "Give the first value and the first one behind, for example [0, 1].",
            )
        limits = np.iinfo(dtype.name)
        return float(limits.min), float(limits.max) + 1

    def _levels(self, pixels: NDArray[Any], job: ImageJob) -> NDArray[np.int64]:
        """Level of each pixel; -1 where it is not finite."""
        low, high = self._range(job)
        values = pixels.astype(np.float64)
        finite = np.isfinite(values)
        scaled = np.floor((np.where(finite, values, low) - low) * (self.levels / (high - low)))
        return np.where(finite, np.clip(scaled, 0, self.levels - 1), -1).astype(np.int64)

    @classmethod
    def texts(cls) -> tuple[ColumnText, ...]:
        return TEXTS


def _features(
    cell: NDArray[np.int64], rows: Rows, size: int
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.bool_]]:
    """Features of symmetric co-occurrence tables, and which tables have pairs.

    Parameters
    ----------
    cell : ndarray of shape (n,), int64
        Table of each row, ascending, below `size`.
    """
    a, b, n = (rows[key].astype(np.int64) for key in ("low", "high", "pairs"))
    apart = b - a
    equal = apart == 0

    def total(weight: NDArray[np.int64]) -> NDArray[Any]:
        found = np.zeros(size, np.int64)
        np.add.at(found, cell, weight)
        return found

    pairs = total(n)
    known = pairs > 0
    each = np.where(known, pairs, 1).astype(np.float64)
    p = n / each[cell]
    logs = np.log(np.where(equal, p, p / 2))
    # Every pair counts in both directions: T = 2 pairs.
    s = total(n * (a + b)).astype(object)
    twice = (2 * pairs).astype(object)
    spread = twice * total(n * (a * a + b * b)).astype(object) - s * s
    common = twice * total(2 * n * a * b).astype(object) - s * s
    flat = spread == 0
    quotient = common / np.where(flat, 1, spread)
    found = {
        "contrast": total(n * apart**2) / each,
        "dissimilarity": total(n * apart) / each,
        "homogeneity": np.bincount(cell, p / (1.0 + apart**2), size),
        "energy": np.sqrt(np.bincount(cell, np.where(equal, p * p, p * p / 2), size)),
        "correlation": np.where(flat, 1.0, quotient.astype(np.float64)),
        "entropy": np.bincount(cell, -p * logs, size),
    }
    return found, known


_FORMULAS = {
    "contrast": "sum of p (i - j)^2",
    "dissimilarity": "sum of p |i - j|",
    "homogeneity": "sum of p / (1 + (i - j)^2)",
    "energy": "root of the sum of p^2",
    "correlation": "covariance of i and j over their variance; 1 where all levels are equal",
    "entropy": "- sum of p ln p",
}
_MEAN = "mean over the directions that have pairs, NaN where none has"
TEXTS = tuple(
    ColumnText(
        f"texture_{name}_{{channel}}",
        "nat" if name == "entropy" else "1",
        "float64",
        f"{formula}, p the share of pairs of levels (i, j) within the object; {_MEAN}",
        "skimage.feature.graycoprops; doi:10.1109/TSMC.1973.4309314",
    )
    for name, formula in _FORMULAS.items()
)
