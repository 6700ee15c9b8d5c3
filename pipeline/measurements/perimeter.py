"""Perimeter of planar objects, surface of volumes, from counts of local configurations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from pipeline.job import ImageJob
from pipeline.kernels.configurations import crossings, half_steps, perimeter_classes
from pipeline.measurements.family import ColumnText, Family, Halo, MeasureWindow, unit_halo
from pipeline.measurements.rows import Column, Rows, spread, weighted
from pipeline.measurements.spacing import crofton_weights

#: Of a border pixel's classes, see `perimeter_classes`.
WEIGHTS = np.array([1.0, math.sqrt(2), (1 + math.sqrt(2)) / 2])

#: Sides of a pixel that differ by less than this share are alike: files round them.
ALIKE = 1e-6


class Perimeter(Family):
    """Length of the border in planes; area of the surface in volumes."""

    name: ClassVar[str] = "perimeter"

    def halo(self, job: ImageJob) -> Halo:
        return unit_halo(job, 2 if job.grid.ndim == 2 else 1)

    def no_rows(self, job: ImageJob) -> Rows:
        steps = len(half_steps(job.grid.ndim))
        rows: Rows = {"label": np.empty(0, np.int64), "crossings": np.empty((0, steps), np.int64)}
        if job.grid.ndim == 2:
            rows["classes"] = np.empty((0, 3), np.int64)
        return rows

    def map(self, window: MeasureWindow) -> Rows:
        near = unit_halo(window.job)
        found = crossings(window.within(near), near, window.count, half_steps(window.ndim))
        there = np.flatnonzero(found.any(axis=1))
        rows: Rows = {"label": window.names[there], "crossings": found[there]}
        if window.ndim == 2:
            halo = self.halo(window.job)
            rows["classes"] = perimeter_classes(window.within(halo), halo, window.count)[there]
        return rows

    def finish(self, job: ImageJob, rows: Rows, objects: Mapping[str, Any]) -> dict[str, Any]:
        label = objects["label"].astype(np.int64)
        crossed = spread(label, rows, "crossings").astype(np.float64)
        sizes = job.frame_pixel_size_um
        if job.grid.ndim == 3:
            return _surfaces(crossed, sizes, objects)
        perimeter = weighted(spread(label, rows, "classes"), WEIGHTS)
        square = abs(sizes[0] - sizes[1]) <= ALIKE * max(sizes)
        with np.errstate(divide="ignore"):
            form = 4 * np.pi * objects["area_px"] / perimeter**2
        return {
            "perimeter_px": perimeter,
            "perimeter_um": perimeter * (sizes[0] if square else np.nan),
            "perimeter_crofton_px": weighted(crossed, crofton_weights((1.0, 1.0))),
            "perimeter_crofton_um": weighted(crossed, _known_weights(sizes)),
            "form_factor": np.where(perimeter > 0, form, np.nan),
        }

    @classmethod
    def texts(cls) -> tuple[ColumnText, ...]:
        return TEXTS


def _surfaces(
    crossed: Column, sizes: tuple[float, ...], objects: Mapping[str, Any]
) -> dict[str, Any]:
    z, y, x = sizes
    surface = weighted(crossed, _known_weights(sizes))
    volume = objects["volume_um3"]
    return {
        "surface_px2": weighted(crossed, crofton_weights((1.0, 1.0, 1.0))),
        "surface_um2": surface,
        "surface_faces_px2": crossed[:, :3].sum(axis=1).astype(np.int64),
        "surface_faces_um2": weighted(crossed, np.array([y * x, z * x, z * y])),
        "sphericity": np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / surface,
    }


def _known_weights(sizes: tuple[float, ...]) -> Column:
    """Crofton's weights; NaN where the file does not say all sizes."""
    if not np.isfinite(sizes).all():
        return np.full(len(half_steps(len(sizes))), np.nan)
    return crofton_weights(sizes)


_LEGLAND = "doi:10.5566/ias.v26.p83-92"
TEXTS = (
    ColumnText(
        "perimeter_px",
        "px",
        "float64",
        "2D: length of the line through the middles of border pixels; 0 for one pixel",
        "skimage.measure.perimeter, 4 neighbours",
    ),
    ColumnText(
        "perimeter_um",
        "um",
        "float64",
        "the same; NaN where pixels are not square, to a millionth",
        "as above",
    ),
    ColumnText(
        "perimeter_crofton_px",
        "px",
        "float64",
        "2D: Crofton's formula in 4 directions",
        f"skimage.measure.perimeter_crofton; {_LEGLAND}",
    ),
    ColumnText(
        "perimeter_crofton_um",
        "um",
        "float64",
        "the same with pixels of any shape: a direction has the part of the circle nearest to it",
        _LEGLAND,
    ),
    ColumnText(
        "form_factor",
        "1",
        "float64",
        "2D: 4 pi area_px / perimeter_px^2; NaN where the perimeter is 0. May exceed 1",
        "doi:10.1186/gb-2006-7-10-r100",
    ),
    ColumnText(
        "surface_px2",
        "px^2",
        "float64",
        "3D: Crofton's formula in 13 directions, voxels taken as cubes",
        _LEGLAND,
    ),
    ColumnText("surface_um2", "um^2", "float64", "the same with the voxels' sizes", _LEGLAND),
    ColumnText("surface_faces_px2", "px^2", "int64", "3D: faces of voxels that lie outward"),
    ColumnText("surface_faces_um2", "um^2", "float64", "their area"),
    ColumnText(
        "sphericity",
        "1",
        "float64",
        "3D: surface of the ball of the same volume, over surface_um2",
        "doi:10.1086/624298",
    ),
)
