"""Convex hull: its size, solidity and diameters."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from pipeline.job import ImageJob
from pipeline.kernels.hull_rows import hull_rows
from pipeline.kernels.hulls import plane_hulls, polygon_measures, run_ends
from pipeline.measurements.family import ColumnText, Family, MeasureWindow
from pipeline.measurements.rows import Rows

#: By how much a voxel may lie outside a hull of floats, as `convex_hull_image` takes it.
TOLERANCE_PX = 1e-10
#: From the middle of a voxel to the middles of its faces.
FACES = np.array([s for s in itertools.product((-0.5, 0, 0.5), repeat=3) if np.abs(s).sum() == 0.5])

_POINT = ("z", "y", "x")


class Hull(Family):
    """Convex hull of every object; rows are its vertices in every plane."""

    name: ClassVar[str] = "hull"

    def no_rows(self, job: ImageJob) -> Rows:
        return {key: np.empty(0, np.int64) for key in ("label", *_POINT)}

    def map(self, window: MeasureWindow) -> Rows:
        found = plane_hulls(run_ends(window.core(), window.count))
        rows: Rows = {"label": window.names[found[:, 0] - 1]}
        for k, axis in enumerate(_POINT):
            rows[axis] = found[:, k + 1] + window.origin[k]
        return rows

    def merge(self, rows: Rows) -> Rows:
        points = np.stack([rows[key] for key in ("label", *_POINT)], axis=1)
        order = np.lexsort([rows[key] for key in reversed(("label", *_POINT))])
        found = plane_hulls(np.ascontiguousarray(points[order]))
        return {key: found[:, k] for k, key in enumerate(("label", *_POINT))}

    def finish(self, job: ImageJob, rows: Rows, objects: Mapping[str, Any]) -> dict[str, Any]:
        ends = np.searchsorted(rows["label"], objects["label"].astype(np.int64), "right")
        offsets = np.concatenate([[0], ends]).astype(np.int64)
        points = np.stack([rows[axis] for axis in _POINT], axis=1)
        if job.grid.ndim == 2:
            flat = np.ascontiguousarray(points[:, 1:])
            area, feret = polygon_measures(flat, offsets, *job.frame_pixel_size_um)
        else:
            area, feret = _volumes(points, offsets, job.frame_pixel_size_um)
        columns = {
            "convex_area_px": area,
            "solidity": objects["area_px"] / np.maximum(area, 1),
            "feret_max_px": feret[:, 0],
            "feret_max_um": feret[:, 2],
        }
        if job.grid.ndim == 2:
            columns |= {"feret_min_px": feret[:, 1], "feret_min_um": feret[:, 3]}
        return columns

    @classmethod
    def texts(cls) -> tuple[ColumnText, ...]:
        return TEXTS


def _volumes(
    points: NDArray[np.int64], offsets: NDArray[np.int64], sizes: tuple[float, ...]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """As `polygon_measures` for volumes, without smallest diameters."""
    count = len(offsets) - 1
    area = np.zeros(count, np.int64)
    feret = np.zeros((count, 4))
    for i in range(count):
        own = points[offsets[i] : offsets[i + 1]]
        # From the object's corner, so that rounding does not depend on where it lies.
        origin = own.min(axis=0)
        hull = ConvexHull(_with_faces(own - origin))
        rows = hull_rows(hull.equations, (own - origin).max(axis=0), TOLERANCE_PX)
        area[i] = (rows[:, 3] - rows[:, 2] + 1).sum()
        ends = np.concatenate([rows[:, [0, 1, 2]], rows[:, [0, 1, 3]]])
        filled = ConvexHull(_with_faces(ends))
        vertices = filled.points[np.sort(filled.vertices)]
        feret[i, 0] = _largest_distance(vertices)
        feret[i, 2] = _largest_distance(vertices * sizes)
    return area, feret


def _with_faces(points: NDArray[np.int64]) -> NDArray[np.float64]:
    """Middles of the faces of voxels, each once, sorted: Qhull's answer depends on the order."""
    return np.unique((points[:, None, :] + FACES).reshape(-1, 3), axis=0)


def _largest_distance(points: NDArray[np.float64]) -> float:
    largest = 0.0
    for k, point in enumerate(points):
        apart = points[k:] - point
        largest = max(largest, float((apart**2).sum(axis=1).max()))
    return float(np.sqrt(largest)) if np.isfinite(points).all() else float("nan")


_HULL = "skimage.morphology.convex_hull_image"
TEXTS = (
    ColumnText(
        "convex_area_px",
        "px",
        "int64",
        "pixels whose middle lies in the convex hull of the middles of the object's pixel sides, "
        "or on its border; 2D in whole numbers, 3D within 1e-10 px",
        _HULL,
    ),
    ColumnText("solidity", "1", "float64", "area_px / convex_area_px", _HULL),
    ColumnText(
        "feret_max_px",
        "px",
        "float64",
        "largest distance between the middles of outward pixel sides of the convex area",
        "skimage.measure.regionprops, feret_diameter_max",
    ),
    ColumnText("feret_max_um", "um", "float64", "the same with the pixels' sizes", "as above"),
    ColumnText(
        "feret_min_px",
        "px",
        "float64",
        "2D: smallest distance of two parallels that hold the same points between them",
    ),
    ColumnText("feret_min_um", "um", "float64", "the same with the pixels' sizes"),
)
