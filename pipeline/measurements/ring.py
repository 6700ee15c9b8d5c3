"""What surrounds an object: intensities in a ring of background around it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from pipeline.errors import MethodError
from pipeline.intensities import channel_columns
from pipeline.job import ImageJob
from pipeline.kernels.measure import EXTREMES, SUMS, Quantum, intensity
from pipeline.kernels.nearest import nearest_labels
from pipeline.measurements.family import (
    ColumnText,
    Family,
    Halo,
    MeasureWindow,
    held_by_frame,
)
from pipeline.measurements.rows import Rows, concatenate, merged, spread

#: Widest ring, in px along any axis.
WIDEST_PX = 256


class Ring(Family):
    """Background within a distance of an object and nearer to it than to others.

    `width`: in `unit`. A pixel as near to several objects belongs to that of the smallest label.
    """

    width: float = Field(gt=0)
    unit: Literal["px", "um"] = "px"

    name: ClassVar[str] = "ring"
    seconds_per_megapixel: ClassVar[float] = 0.1
    bytes_per_px: ClassVar[float] = 36.0

    def halo(self, job: ImageJob) -> Halo:
        return held_by_frame(job, self.reach(job))

    def reach(self, job: ImageJob) -> Halo:
        """Whole pixels of the width along z, y, x."""
        z, y, x = (int(self.width / size) for size in self._sizes(job))
        return (z if job.grid.ndim == 3 else 0), y, x

    def check(self, job: ImageJob) -> None:
        if self.unit == "um" and not np.isfinite(job.frame_pixel_size_um).all():
            raise MethodError(
                job.name,
                "measure.ring_um is in micrometres, and the file does not say its pixel size",
                "Give the width in pixels: measure.ring_px.",
            )
        widest = max(self.width / size for size in self._sizes(job)[3 - job.grid.ndim :])
        if widest < 1:
            raise MethodError(
                job.name,
                f"a ring of {self.width:g} {self.unit} is narrower than a pixel",
                "Make it wider.",
            )
        if widest > WIDEST_PX:
            sizes = " x ".join(f"{size:g}" for size in job.frame_pixel_size_um)
            raise MethodError(
                job.name,
                f"measure.ring_{self.unit} of {self.width:g} is {widest:.6g} px with pixels of "
                f"{sizes} um, and {WIDEST_PX} px are the limit",
                "Choose a narrower ring, or say the right size of a pixel in the recipe: "
                "source.pixel_size_um.",
            )

    def no_rows(self, job: ImageJob) -> Rows:
        rows: Rows = {key: np.empty(0, np.int64) for key in ("label", "channel", "area")}
        return rows | {key: np.empty(0, np.int64) for key in SUMS}

    def map(self, window: MeasureWindow) -> Rows:
        halo = self.halo(window.job)
        labels, reach = window.within(halo), self.reach(window.job)
        ring = nearest_labels(labels, halo, reach, self.width, self._sizes(window.job))
        area = np.bincount(ring.reshape(-1), minlength=window.count + 1)[1:]
        there = np.flatnonzero(area)
        parts = [self.no_rows(window.job)]
        # Channel -1 has the area alone, for no channel need be measured.
        zeros = dict.fromkeys(SUMS, np.zeros(len(there), np.int64))
        parts.append(_rows(window, there, -1, area[there], zeros))
        for number, channel in enumerate(window.job.measured):
            pixels = window.pixels(channel)
            quantum = Quantum.of(pixels.dtype, *window.view.raw_range(channel))
            found = intensity(ring, pixels, area, quantum)
            sums = {key: getattr(found, key)[there] for key in SUMS}
            parts.append(_rows(window, there, number, area[there], sums))
        return concatenate(parts)

    def merge(self, rows: Rows) -> Rows:
        return merged(rows, ("label", "channel"), EXTREMES)

    def finish(self, job: ImageJob, rows: Rows, objects: Mapping[str, Any]) -> dict[str, Any]:
        label = objects["label"].astype(np.int64)
        area = {key: column[rows["channel"] == -1] for key, column in rows.items()}
        columns: dict[str, Any] = {"ring_area_px": spread(label, area, "area")}
        for number, channel in enumerate(job.measured):
            own = {key: column[rows["channel"] == number] for key, column in rows.items()}
            sums = np.stack([spread(label, own, key) for key in SUMS], axis=1)
            dtype = np.dtype(job.info.dtype)
            for key, column in channel_columns(sums, dtype, objects["ranges"][number]).items():
                columns[f"ring_{key}_{job.info.channels[channel]}"] = column
        return columns

    def _sizes(self, job: ImageJob) -> tuple[float, float, float]:
        if self.unit == "px":
            return 1.0, 1.0, 1.0
        z, y, x = (1.0, *job.frame_pixel_size_um)[-3:]
        return z, y, x

    @classmethod
    def texts(cls) -> tuple[ColumnText, ...]:
        return TEXTS


def _rows(
    window: MeasureWindow, there: Any, channel: int, area: Any, sums: Mapping[str, Any]
) -> Rows:
    return {
        "label": window.names[there],
        "channel": np.full(len(there), channel),
        "area": area,
        **sums,
    }


_EXPAND = "skimage.segmentation.expand_labels, ties to the smaller label"
_text = functools.partial(ColumnText, unit="value", dtype="float64")
TEXTS = (
    ColumnText(
        "ring_area_px",
        "px",
        "int64",
        "pixels of no object whose middle lies within the ring's width of the middle of one of "
        "the object's pixels, and nearer to it than to all objects of smaller labels, and no "
        "farther than to those of larger ones",
        _EXPAND,
    ),
    _text(name="ring_min_{channel}", definition="smallest value in the ring; NaN in an empty one"),
    _text(name="ring_mean_{channel}", definition="mean value in the ring"),
    _text(name="ring_max_{channel}", definition="largest value in the ring"),
    _text(
        name="ring_std_{channel}", definition="standard deviation in the ring, of the population"
    ),
    _text(name="ring_sum_{channel}", definition="sum of the values in the ring"),
)
