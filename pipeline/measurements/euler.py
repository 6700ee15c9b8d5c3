"""Euler number: parts less holes (3D: plus cavities)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from pipeline.job import ImageJob
from pipeline.kernels.configurations import euler_sums
from pipeline.measurements.family import ColumnText, Family, Halo, MeasureWindow, unit_halo
from pipeline.measurements.rows import Rows, spread


class Euler(Family):
    """Euler number of every object."""

    name: ClassVar[str] = "euler"

    def halo(self, job: ImageJob) -> Halo:
        return unit_halo(job)

    def no_rows(self, job: ImageJob) -> Rows:
        return {key: np.empty(0, np.int64) for key in ("label", "sum")}

    def map(self, window: MeasureWindow) -> Rows:
        halo = self.halo(window.job)
        found = euler_sums(window.within(halo), halo, window.count, window.ndim, window.is_last)
        there = np.flatnonzero(found)
        return {"label": window.names[there], "sum": found[there]}

    def finish(self, job: ImageJob, rows: Rows, objects: Mapping[str, Any]) -> dict[str, Any]:
        total = spread(objects["label"].astype(np.int64), rows, "sum")
        return {"euler_number": total // 2**job.grid.ndim}

    @classmethod
    def texts(cls) -> tuple[ColumnText, ...]:
        return (
            ColumnText(
                "euler_number",
                "1",
                "int64",
                "parts less holes (3D: less tunnels, plus cavities); pixels that meet in a corner "
                "are connected",
                "skimage.measure.euler_number; doi:10.5566/ias.v26.p83-92",
            ),
        )
