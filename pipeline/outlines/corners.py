"""Corners of the outlines of objects: all that is needed to draw them.

An outline along the sides of pixels runs straight from corner to corner. A corner is seen by its
four pixels alone, so the corners of tiles, put together, are those of the whole object.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.job import ImageJob
from pipeline.kernels.configurations import corners_2d
from pipeline.measurements.family import Gathering, Halo, MeasureWindow
from pipeline.measurements.rows import Rows, select

_KEYS = ("label", "z", "y", "x", "code")


class Corners(Gathering):
    """Corners of every object, in every plane by itself."""

    name: ClassVar[str] = "corners"

    def halo(self, job: ImageJob) -> Halo:
        return 0, 1, 1

    def no_rows(self, job: ImageJob) -> Rows:
        return {key: np.empty(0, np.int64) for key in _KEYS}

    def map(self, window: MeasureWindow) -> Rows:
        halo = self.halo(window.job)
        found = corners_2d(window.within(halo), halo, window.is_last)
        rows: Rows = {"label": window.names[found[:, 0] - 1]}
        for k, axis in enumerate("zyx"):
            rows[axis] = found[:, k + 1] + window.origin[k]
        rows["code"] = found[:, 4]
        return rows

    def merge(self, rows: Rows) -> Rows:
        return select(rows, np.lexsort([rows[key] for key in reversed(_KEYS)]))
