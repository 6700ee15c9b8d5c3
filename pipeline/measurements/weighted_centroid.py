"""Centre of every channel's intensity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.job import ImageJob
from pipeline.kernels.measure import Quantum
from pipeline.kernels.weighted import weighted_sums
from pipeline.measurements.family import ColumnText, Family, MeasureWindow
from pipeline.measurements.rows import Rows, concatenate, merged


class WeightedCentroid(Family):
    """Mean of the pixels' places, weighted by their values."""

    name: ClassVar[str] = "weighted"
    of_channels: ClassVar[bool] = True

    def no_rows(self, job: ImageJob) -> Rows:
        keys = ("label", "channel", "count", "total", "offset", "step")
        rows: Rows = {key: np.empty(0, np.int64) for key in keys[:-2]}
        rows |= {key: np.empty(0) for key in keys[-2:]}
        return rows | {key: np.empty((0, 3), np.int64) for key in ("sums", "high", "low")}

    def map(self, window: MeasureWindow) -> Rows:
        parts = [self.no_rows(window.job)]
        for number, channel in enumerate(window.job.measured):
            pixels = window.pixels(channel)
            quantum = Quantum.of(pixels.dtype, *window.view.raw_range(channel))
            found = weighted_sums(
                window.core(), pixels, window.count, quantum.offset, quantum.step, window.origin
            )
            there = np.flatnonzero(found["count"])
            rows = {key: column[there] for key, column in found.items()}
            rows["label"] = window.names[there]
            rows["channel"] = np.full(len(there), number)
            rows["offset"] = np.full(len(there), quantum.offset)
            rows["step"] = np.full(len(there), quantum.step)
            parts.append(rows)
        return concatenate(parts)

    def merge(self, rows: Rows) -> Rows:
        # Offset and step are the image's, the same in all rows.
        same = {"offset": np.maximum, "step": np.maximum}
        return merged(rows, ("label", "channel"), same)

    def finish(self, job: ImageJob, rows: Rows, objects: Mapping[str, Any]) -> dict[str, Any]:
        label = objects["label"].astype(np.int64)
        columns: dict[str, Any] = {}
        axes = "zyx"[3 - job.grid.ndim :]
        for number, channel in enumerate(job.measured):
            own = {key: column[rows["channel"] == number] for key, column in rows.items()}
            place = np.searchsorted(label, own["label"])
            for axis, size in zip(axes, job.frame_pixel_size_um, strict=True):
                centre = np.full(len(label), np.nan)
                centre[place] = _centres(own, "zyx".index(axis))
                name = job.info.channels[channel]
                columns[f"weighted_centroid_{axis}_px_{name}"] = centre
                columns[f"weighted_centroid_{axis}_um_{name}"] = centre * size
        return columns

    @classmethod
    def texts(cls) -> tuple[ColumnText, ...]:
        source = "skimage.measure.regionprops, centroid_weighted"
        return (
            ColumnText(
                "weighted_centroid_{axis}_px_{channel}",
                "px",
                "float64",
                "mean place of the pixels, weighted by their values; pixels that are not finite "
                "are left out; NaN where the values sum to 0",
                source,
            ),
            ColumnText(
                "weighted_centroid_{axis}_um_{channel}", "um", "float64", "the same", source
            ),
        )


def _centres(rows: Rows, axis: int) -> NDArray[np.float64]:
    """Along one axis: sum of value * place over sum of values, with value = offset + step * q."""
    exact = rows["high"][:, axis].astype(object) * 2**32 + rows["low"][:, axis].astype(object)
    offset, step = rows["offset"], rows["step"]
    if (step == 1).all() and (offset == np.floor(offset)).all():
        whole = offset.astype(np.int64).astype(object)
        above = whole * rows["sums"][:, axis].astype(object) + exact
        below = whole * rows["count"].astype(object) + rows["total"].astype(object)
    else:
        above = offset * rows["sums"][:, axis] + step * exact.astype(np.float64)
        below = offset * rows["count"] + step * rows["total"]
    known = below != 0
    found = np.full(len(known), np.nan)
    found[known] = (above[known] / below[known]).astype(np.float64)
    return found
