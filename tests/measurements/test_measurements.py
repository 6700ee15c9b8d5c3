"""Measured objects against scikit-image on the whole image, for any tiling."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.distance import cdist
from skimage.feature import graycomatrix, graycoprops
from skimage.measure import regionprops

from tests.measurements.given_labels import label_images, measured

THOROUGH = settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
TOLERANCE = 1e-9
ALL: dict[str, Any] = {
    "shape": True,
    "weighted_centroid": True,
    "quantiles": [0.5, 0.05, 0.9],
    "ring_px": 2.5,
    "texture": {"levels": 6, "range": [0, 200]},
    "neighbours": {"within_px": 3},
}


def assert_near(table: pa.Table, name: str, expected: Any) -> None:
    found, wanted = table[name].to_numpy(), np.asarray(expected, np.float64)
    assert found.shape == wanted.shape, name
    scale = np.maximum(1, np.abs(wanted))
    same = (np.isnan(found) & np.isnan(wanted)) | (np.abs(found - wanted) <= TOLERANCE * scale)
    assert same.all(), (name, found[~same][:5], wanted[~same][:5])


def drawn_image(labels: np.ndarray, seed: int, dtype: str) -> np.ndarray:
    generator = np.random.default_rng(seed)
    shape = (2, *(1,) * (3 - labels.ndim), *labels.shape)
    return generator.integers(1, 250, shape).astype(dtype)


def run(
    labels: np.ndarray, image: np.ndarray, cuts: list[tuple[Any, int]], **content: Any
) -> tuple[np.ndarray, pa.Table]:
    """Labels and table of the whole image; those of all cuts must be the same bits."""
    with tempfile.TemporaryDirectory() as name:
        content = {"measure": ALL, "source": {"dims": f"{labels.ndim}d"}, **content}
        whole, table, digest = measured(labels, image, Path(name), 64, **content)
        for side, order in cuts:
            again, other, its = measured(labels, image, Path(name), side, order=order, **content)
            assert np.array_equal(again, whole)
            assert other.schema.equals(table.schema)
            for column in table.column_names:
                a, b = (np.asarray(t[column].to_pylist()) for t in (table, other))
                assert a.tobytes() == b.tobytes(), (column, side)
            assert its == digest
    return whole if labels.ndim == 3 else whole[0], table


@given(
    labels=label_images(2),
    seed=st.integers(0, 2**16),
    side=st.one_of(st.integers(1, 30), st.tuples(st.integers(1, 30), st.integers(1, 30))),
    dtype=st.sampled_from(["uint8", "uint16", "int16"]),
    fill=st.booleans(),
    spacing=st.sampled_from([(0.5, 0.5), (0.4, 0.3)]),
)
@THOROUGH
def test_planes(
    labels: np.ndarray, seed: int, side: Any, dtype: str, fill: bool, spacing: tuple[float, float]
) -> None:
    image = drawn_image(labels, seed, dtype)
    if dtype == "int16":
        image -= 3
    whole, table = run(
        labels,
        image,
        [(side, 0), (side, 1)],
        sizes=(None, *spacing),
        postprocess={"fill_holes": fill},
    )
    pixels = np.moveaxis(image[:, 0], 0, -1).astype(np.float64)
    regions = regionprops(whole.astype(np.int64), pixels)
    assert table["label"].to_pylist() == [region.label for region in regions]
    for name, attribute in (
        ("equivalent_diameter_px", "equivalent_diameter_area"),
        ("extent", "extent"),
        ("perimeter_px", "perimeter"),
        ("perimeter_crofton_px", "perimeter_crofton"),
        ("convex_area_px", "area_convex"),
        ("solidity", "solidity"),
        ("feret_max_px", "feret_diameter_max"),
        ("euler_number", "euler_number"),
    ):
        assert_near(table, name, [getattr(region, attribute) for region in regions])
    # A root doubles the rounding of what is under it.
    flat = np.array([region.eccentricity for region in regions])
    assert np.abs(table["eccentricity"].to_numpy() ** 2 - flat**2).max(initial=0) < TOLERANCE
    scaled = regionprops(whole.astype(np.int64), pixels, spacing=spacing)
    if spacing[0] == spacing[1]:
        assert_near(table, "perimeter_um", [region.perimeter for region in scaled])
        assert_near(table, "perimeter_crofton_um", [r.perimeter_crofton for r in scaled])
    else:
        assert_near(table, "perimeter_um", [np.nan] * len(regions))
    assert_near(table, "feret_max_um", [region.feret_diameter_max for region in scaled])
    check_channels(table, regions, pixels, whole)
    check_neighbours(table, whole, 3)
    check_ring(table, whole, pixels, 2.5)
    check_texture_of_planes(table, whole, image)


@given(
    labels=label_images(3),
    seed=st.integers(0, 2**16),
    side=st.one_of(st.integers(1, 10), st.tuples(*[st.integers(1, 10)] * 3)),
)
@THOROUGH
def test_volumes(labels: np.ndarray, seed: int, side: Any) -> None:
    image = drawn_image(labels, seed, "uint8")
    whole, table = run(labels, image, [(side, 3)])
    pixels = np.moveaxis(image, 0, -1).astype(np.float64)
    regions = regionprops(whole.astype(np.int64), pixels)
    assert table["label"].to_pylist() == [region.label for region in regions]
    names = [
        ("equivalent_diameter_px", "equivalent_diameter_area"),
        ("extent", "extent"),
        ("euler_number", "euler_number"),
    ]
    if min(labels.shape) > 1:  # scikit-image finds no hull in flat volumes
        scaled = regionprops(whole.astype(np.int64), pixels, spacing=(2.5, 0.5, 0.5))
        check_volume_hulls(table, regions, scaled)
    for name, attribute in names:
        assert_near(table, name, [getattr(region, attribute) for region in regions])
    check_channels(table, regions, pixels, whole)
    check_neighbours(table, whole, 3)
    check_ring(table, whole, pixels, 2.5)


def check_volume_hulls(table: pa.Table, regions: Any, scaled: Any) -> None:
    """Scikit-image gives up on objects in one plane, and answers 0."""
    for row, region in enumerate(regions):
        rank = np.linalg.matrix_rank(region.coords - region.coords[0])
        if rank < 3:
            continue
        assert table["convex_area_px"][row].as_py() == region.area_convex
        for name, of in (("feret_max_px", region), ("feret_max_um", scaled[row])):
            assert abs(table[name][row].as_py() - of.feret_diameter_max) < TOLERANCE


def check_channels(table: pa.Table, regions: Any, pixels: np.ndarray, whole: np.ndarray) -> None:
    axes = "zyx"[3 - whole.ndim :]
    for channel, name in enumerate("ab"):
        values = [pixels[..., channel][whole == region.label] for region in regions]
        assert_near(table, f"sum_{name}", [v.sum() for v in values])
        for key, q in (("median", 0.5), ("q5", 0.05), ("q90", 0.9)):
            assert_near(table, f"{key}_{name}", [np.quantile(v, q) for v in values])
        for k, axis in enumerate(axes):
            centres = [
                (region.coords[:, k] * v).sum() / v.sum() if v.sum() else np.nan
                for region, v in zip(
                    regions,
                    [pixels[(*r.coords.T, channel)] for r in regions],
                    strict=True,
                )
            ]
            found = table[f"weighted_centroid_{axis}_px_{name}"].to_numpy()
            assert np.array_equal(np.isnan(found), np.isnan(centres))
            assert_near(table, f"weighted_centroid_{axis}_px_{name}", centres)


def check_neighbours(table: pa.Table, whole: np.ndarray, radius: float) -> None:
    count = int(whole.max())
    around = np.pad(whole, 1).astype(np.int64)
    touched: list[set[int]] = [set() for _ in range(count + 1)]
    shared, border = np.zeros(count + 1), np.zeros(count + 1)
    for axis in range(whole.ndim):
        for a, b in ((around, np.roll(around, 1, axis)), (around, np.roll(around, -1, axis))):
            apart = (a != b) & (a > 0)
            np.add.at(border, a[apart], 1)
            np.add.at(shared, a[apart & (b > 0)], 1)
            for one, other in set(zip(a[apart & (b > 0)], b[apart & (b > 0)], strict=True)):
                touched[one].add(other)
    assert_near(table, "neighbours_touching", [len(t) for t in touched[1:]])
    assert_near(table, "border_touched", shared[1:] / border[1:])
    places = [np.argwhere(whole == n) for n in range(1, count + 1)]
    near = [
        sum(cdist(a, b).min() <= radius for k, b in enumerate(places) if k != i)
        for i, a in enumerate(places)
    ]
    assert_near(table, "neighbours_within_3px", near)


def check_ring(table: pa.Table, whole: np.ndarray, pixels: np.ndarray, width: float) -> None:
    count = int(whole.max())
    distance = np.full((count + 1, *whole.shape), np.inf)
    for n in range(1, count + 1):
        distance[n] = ndimage.distance_transform_edt(whole != n)
    square = np.rint(distance**2 * 1) if count else distance
    nearest = np.argmin(square, axis=0)  # the first of equals is the smallest label
    inside = (whole == 0) & (np.min(square, axis=0) <= width**2)
    ring = np.where(inside, nearest, 0)
    assert_near(table, "ring_area_px", np.bincount(ring.ravel(), minlength=count + 1)[1:])
    for channel, name in enumerate("ab"):
        values = [pixels[..., channel][ring == n] for n in range(1, count + 1)]
        for key in ("min", "mean", "max", "std", "sum"):
            expected = [getattr(v, key)() if v.size else np.nan for v in values]
            assert_near(table, f"ring_{key}_{name}", expected)


def check_texture_of_planes(table: pa.Table, whole: np.ndarray, image: np.ndarray) -> None:
    """Background is a level of its own, whose pairs are left out."""
    levels = np.clip(np.floor(image.astype(np.float64) * 6 / 200), 0, 5).astype(np.uint8) + 1
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    for channel, name in enumerate("ab"):
        rows: dict[str, list[float]] = {}
        for n in range(1, int(whole.max()) + 1):
            own = np.where(whole == n, levels[channel, 0], 0)
            counts = graycomatrix(own, [1], angles, 7, symmetric=True).astype(np.float64)
            counts = counts[1:, 1:]
            known = counts.sum(axis=(0, 1))[0] > 0
            for key in (
                "contrast",
                "dissimilarity",
                "homogeneity",
                "energy",
                "correlation",
                "entropy",
            ):
                each = graycoprops(counts, key)[0][known]
                rows.setdefault(key, []).append(each.mean() if known.any() else np.nan)
        for key, expected in rows.items():
            assert_near(table, f"texture_{key}_{name}", expected)
