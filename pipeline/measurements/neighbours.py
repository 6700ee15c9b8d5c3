"""Neighbours: objects that touch or lie near."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from pipeline.job import ImageJob
from pipeline.kernels.configurations import contacts, crossings, half_steps
from pipeline.kernels.near_pairs import near_pairs
from pipeline.measurements.family import (
    ColumnText,
    Family,
    Halo,
    MeasureWindow,
    held_by_frame,
    unit_halo,
)
from pipeline.measurements.rows import Rows, concatenate, merged


class Neighbours(Family):
    """How many objects touch each object, with how much of its border, and how many are near.

    `within_px`: how far near ones are at most, from pixel to pixel; by default they are not
    counted.
    """

    within_px: float | None = Field(default=None, ge=1, le=128)

    name: ClassVar[str] = "neighbours"
    seconds_per_megapixel: ClassVar[float] = 0.03
    #: The same for near ones, of the window: volumes of objects of 10 px within 20 px.
    near_seconds_per_megapixel: ClassVar[float] = 0.04

    def halo(self, job: ImageJob) -> Halo:
        # Faces at the border of the frame need the pixel behind it.
        near = held_by_frame(job, unit_halo(job, int(self.within_px or 0)))
        z, y, x = map(max, zip(near, unit_halo(job), strict=True))
        return z, y, x

    def cpu_seconds_per_megapixel(self, job: ImageJob) -> float:
        if self.within_px is None:
            return self.seconds_per_megapixel
        halo = self.halo(job)[3 - job.grid.ndim :]
        window = [(s + 2 * h) / s for s, h in zip(job.grid.side, halo, strict=True)]
        return self.seconds_per_megapixel + self.near_seconds_per_megapixel * math.prod(window)

    def no_rows(self, job: ImageJob) -> Rows:
        return {key: np.empty(0, np.int64) for key in ("label", "other", "faces", "near")}

    def map(self, window: MeasureWindow) -> Rows:
        close = unit_halo(window.job)
        labels = window.within(close)
        steps = half_steps(window.ndim)[: window.ndim]
        faces = crossings(labels, close, window.count, steps).sum(axis=1)
        own = np.arange(1, window.count + 1)[faces > 0]
        # The whole border stands as what is shared with 0, the background among others.
        parts = [_rows(window, own, np.zeros_like(own), faces[faces > 0], 0)]
        met = contacts(labels, close, steps)
        parts.append(_rows(window, met[:, 0], met[:, 1], np.ones(len(met), np.int64), 0))
        if self.within_px is not None:
            halo = self.halo(window.job)
            near = near_pairs(window.within(halo), halo, self.within_px)
            parts.append(_rows(window, near[:, 0], near[:, 1], np.zeros(len(near), np.int64), 1))
        return self.merge(concatenate(parts))

    def merge(self, rows: Rows) -> Rows:
        return merged(rows, ("label", "other"), {"near": np.maximum})

    def finish(self, job: ImageJob, rows: Rows, objects: Mapping[str, Any]) -> dict[str, Any]:
        label = objects["label"].astype(np.int64)
        place = np.searchsorted(label, rows["label"])
        is_object = rows["other"] > 0
        size = len(label)

        def total(chosen: Any, column: Any) -> Any:
            found = np.zeros(size, np.int64)
            np.add.at(found, place[chosen], column[chosen])
            return found

        border = total(~is_object, rows["faces"])
        columns: dict[str, Any] = {
            "neighbours_touching": total(is_object, (rows["faces"] > 0).astype(np.int64)),
            "border_touched": total(is_object, rows["faces"]) / np.maximum(border, 1),
        }
        if self.within_px is not None:
            columns[f"neighbours_within_{self.within_px:g}px"] = total(is_object, rows["near"])
        return columns

    @classmethod
    def texts(cls) -> tuple[ColumnText, ...]:
        return (
            ColumnText(
                "neighbours_touching",
                "1",
                "int64",
                "objects that share a pixel side (3D: a voxel face) with it",
            ),
            ColumnText(
                "border_touched",
                "1",
                "float64",
                "share of its outward pixel sides (faces) that another object has on their other "
                "side; sides at the frame's border count as free",
            ),
            ColumnText(
                "neighbours_within_{distance}px",
                "1",
                "int64",
                "objects with a pixel whose middle is so near to that of a pixel of its own",
            ),
        )


def _rows(window: MeasureWindow, own: Any, other: Any, faces: Any, near: int) -> Rows:
    names = np.concatenate([[0], window.names])
    return {
        "label": names[own],
        "other": names[other],
        "faces": faces.astype(np.int64),
        "near": np.full(len(own), near, np.int64),
    }
