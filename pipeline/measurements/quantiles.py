"""Quantiles of every channel's values, from whole counts of each value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.errors import MethodError
from pipeline.job import ImageJob
from pipeline.kernels.sparse_counts import value_counts
from pipeline.measurements.family import ColumnText, Family, MeasureWindow
from pipeline.measurements.rows import Rows, concatenate, merged


class Quantiles(Family):
    """Quantiles of images of up to 16 bits, whose values are few enough to be counted.

    `values`: which, from 0 to 1; 0.5 is the median.
    """

    values: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(default=(0.5,), min_length=1)

    name: ClassVar[str] = "quantiles"
    seconds_per_megapixel: ClassVar[float] = 0.04
    bytes_per_px: ClassVar[float] = 44.0
    of_channels: ClassVar[bool] = True

    def check(self, job: ImageJob) -> None:
        dtype = np.dtype(job.info.dtype)
        if dtype.kind not in "iu" or dtype.itemsize > 2:
            raise MethodError(
                job.name,
                f"measure.quantiles counts values, and its pixels are {dtype.name}",
                "Use it for images of 8 or 16 bits; leave it out of this recipe.",
            )

    def no_rows(self, job: ImageJob) -> Rows:
        # Narrow where it can be: small objects have nearly as many values as pixels.
        return {
            "label": np.empty(0, np.int64),
            "channel": np.empty(0, np.uint16),
            "value": np.empty(0, np.int32),
            "pixels": np.empty(0, np.int64),
        }

    def map(self, window: MeasureWindow) -> Rows:
        parts = [self.no_rows(window.job)]
        for number, channel in enumerate(window.job.measured):
            found = value_counts(window.core(), window.pixels(channel), window.count)
            parts.append(
                {
                    "label": window.names[found[:, 0] - 1],
                    "channel": np.full(len(found), number, np.uint16),
                    "value": found[:, 1].astype(np.int32),
                    "pixels": found[:, 2],
                }
            )
        whole = concatenate(parts)
        return whole | {"pixels": whole["pixels"].astype(np.uint32)}

    def merge(self, rows: Rows) -> Rows:
        return merged(rows, ("label", "channel", "value"))

    def finish(self, job: ImageJob, rows: Rows, objects: Mapping[str, Any]) -> dict[str, Any]:
        label = objects["label"].astype(np.int64)
        columns: dict[str, Any] = {}
        for number, channel in enumerate(job.measured):
            own = {key: column[rows["channel"] == number] for key, column in rows.items()}
            for value in self.values:
                name = f"{quantile_name(value)}_{job.info.channels[channel]}"
                columns[name] = _quantiles(label, own, value)
        return columns

    @classmethod
    def texts(cls) -> tuple[ColumnText, ...]:
        return (
            ColumnText(
                "median_{channel}",
                "value",
                "float64",
                "median of the pixels' values",
                "numpy.quantile, linear (type 7); doi:10.2307/2684934",
            ),
            ColumnText(
                "q{percent}_{channel}",
                "value",
                "float64",
                "quantile: q95 is the value below which 95 % lie",
                "as above",
            ),
        )


def quantile_name(value: float) -> str:
    """Name of a quantile: median, q95, q2.5."""
    return "median" if value == 0.5 else f"q{round(100 * value, 6):g}"


def _quantiles(label: NDArray[np.int64], rows: Rows, value: float) -> NDArray[np.float64]:
    """Between the two values around the place value * (n - 1) of the n sorted ones."""
    heads = np.searchsorted(rows["label"], label)
    below = np.concatenate([[0], np.cumsum(rows["pixels"])])
    first = below[heads]
    total = below[np.append(heads[1:], len(rows["label"]))] - first
    place = value * (np.maximum(total, 1) - 1)
    lower = np.floor(place).astype(np.int64)
    upper = np.minimum(lower + 1, np.maximum(total, 1) - 1)
    ends = below[1:]
    known = total > 0
    found = np.full(len(label), np.nan)
    a = rows["value"][np.searchsorted(ends, (first + lower)[known], "right")].astype(np.float64)
    b = rows["value"][np.searchsorted(ends, (first + upper)[known], "right")].astype(np.float64)
    found[known] = a + (b - a) * (place - lower)[known]
    return found
