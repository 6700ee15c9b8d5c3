"""Voxels that are no cubes, times, channels, projections, nuclei and cells: tiled equals untiled.

What is compared with scikit-image is the table of the whole image, with the sides of its voxels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import label, regionprops

from pipeline.conformance import check_labels
from pipeline.errors import ImageError
from pipeline.labels_recipe import AnyRecipe, parse_any_recipe
from pipeline.trial import Cut, Result, run_labels

SPACINGS = [(1.0, 1.0, 1.0), (2.0, 0.5, 0.5), (1.3, 0.4, 0.3), (0.3, 0.9, 0.9)]


def cells_and_nuclei(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """A nucleus and a cell channel of shape (T, 2, Z, Y, X), uint8."""
    generator = np.random.default_rng(seed)
    times, planes, height, width = shape
    image = np.zeros((times, 2, planes, height, width))
    for t in range(times):
        points = np.zeros((planes, height, width))
        points[tuple(generator.integers(0, n, 9) for n in points.shape)] = 1
        image[t, 0] = ndimage.gaussian_filter(points, (0.8, 2, 2))
        image[t, 1] = ndimage.gaussian_filter(points, (1.5, 4, 4))
        image[t, 1] *= 1 + 0.2 * generator.random(points.shape)
    image *= 220 / image.max(axis=(2, 3, 4), keepdims=True)
    return image.astype(np.uint8)


def recipe_of(
    spacing: tuple[float, ...], dims: str, project: str | None, landscape: str
) -> AnyRecipe:
    sides = spacing if dims == "3d" else spacing[1:]
    size = "min_size_um3" if dims == "3d" else "min_size_um2"
    nuclei = {
        "source": {"channels": [0]},
        "preprocess": [{"filter": "gaussian", "sigma_um": 0.6 * min(sides)}],
        "segment": {
            "method": "watershed",
            "foreground": {"value": 50},
            "min_distance_um": 3 * min(sides),
            "smooth_um": 0.8 * min(sides),
            "max_distance_um": 20 * min(sides),
        },
        "postprocess": {"fill_holes": True, size: 4 * float(np.prod(sides))},
    }
    cells = {
        "source": {"channels": [1]},
        "preprocess": [{"filter": "median", "radius_um": min(sides)}],
        "segment": {
            "method": "watershed",
            "foreground": {"value": 25},
            "landscape": landscape,
            "markers": {"from": "label", "label": "nuclei"},
        },
    }
    source: dict[str, Any] = {"dims": dims, "pixel_size_um": list(spacing)}
    if project is not None:
        source["project"] = project
    cytoplasm = {"segment": {"method": "difference", "of": "cells", "without": "nuclei"}}
    labels = {"nuclei": nuclei, "cells": cells, "cytoplasm": cytoplasm}
    return parse_any_recipe({"source": source, "labels": labels}, "recipe")


@given(
    seed=st.integers(0, 1000),
    shape=st.tuples(st.integers(1, 2), st.integers(2, 7), st.integers(20, 34), st.integers(20, 34)),
    spacing=st.sampled_from(SPACINGS),
    seen=st.sampled_from(
        [("3d", None), ("2d", None), ("2d", "max"), ("2d", "mean"), ("2d", "best_focus")]
    ),
    landscape=st.sampled_from(["intensity", "gradient", "distance"]),
    side=st.tuples(st.integers(2, 7), st.integers(7, 20), st.integers(7, 20)),
    order=st.integers(0, 3),
)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tiled_equals_untiled(
    seed: int,
    shape: tuple[int, ...],
    spacing: tuple[float, ...],
    seen: tuple[str, str | None],
    landscape: str,
    side: tuple[int, int, int],
    order: int,
    tmp_path: Path,
) -> None:
    image = cells_and_nuclei(shape, seed)
    recipe = recipe_of(spacing, *seen, landscape)
    cut = Cut(side if seen[0] == "3d" else side[1:], order, 1 + order)
    found = check_labels(recipe, image, [cut], tmp_path)
    assert not isinstance(found, ImageError)
    sides = spacing if seen[0] == "3d" else spacing[1:]
    for result in found.values():
        compare_with_scikit_image(result, as_seen(image, seen[1]), sides)


def as_seen(image: np.ndarray, project: str | None) -> np.ndarray:
    """The image as the recipe sees it, (T, C, Z, Y, X)."""
    if project is None:
        return image
    if project == "max":
        return image.max(axis=2, keepdims=True)
    if project == "mean":
        mean = (2 * image.astype(int).sum(axis=2, keepdims=True) + image.shape[2]) // (
            2 * image.shape[2]
        )
        return mean.astype(np.uint8)
    chosen = []
    for stack in image:
        sharp = [ndimage.laplace(plane.astype(float), mode="nearest").var() for plane in stack[0]]
        chosen.append(stack[:, [int(np.argmax(sharp))]])
    return np.stack(chosen)


def compare_with_scikit_image(result: Result, image: np.ndarray, sides: tuple[float, ...]) -> None:
    """Areas, centroids, axes and intensities of all objects, in px and um."""
    table = result.table.to_pandas()
    ndim = len(sides)
    planar = ndim == 2
    count = 0
    for index in np.ndindex(result.labels.shape[: 2 if planar else 1]):
        pixels = np.moveaxis(image[index[0]], 0, -1)
        pixels = pixels[index[1]] if planar else pixels
        own = table[table["t"] == index[0]]
        own = (own[own["z"] == index[1]] if planar else own).set_index("label")
        for one in regionprops(result.labels[index], pixels, spacing=sides):
            row = own.loc[one.label]
            count += 1
            assert row["area_px"] == one.num_pixels
            np.testing.assert_allclose(row["area_um2" if planar else "volume_um3"], one.area)
            middle = [row[f"centroid_{a}_um"] for a in "zyx"[-ndim:]]
            np.testing.assert_allclose(middle, one.centroid, rtol=1e-9, atol=1e-9)
            # scikit-image's smallest roots are differences of larger numbers.
            scale = one.axis_major_length
            np.testing.assert_allclose(row["axis_major_um"], scale, rtol=1e-6, atol=1e-6)
            if not planar or one.num_pixels > 1:
                np.testing.assert_allclose(
                    row["axis_minor_um"] ** 2, one.axis_minor_length**2, atol=1e-6 * scale**2
                )
            for channel in (0, 1):
                np.testing.assert_allclose(row[f"mean_{channel}"], one.intensity_mean[channel])
                assert row[f"max_{channel}"] == one.intensity_max[channel]
                assert row[f"min_{channel}"] == one.intensity_min[channel]
                np.testing.assert_allclose(
                    row[f"std_{channel}"], one.intensity_std[channel], atol=1e-9
                )
    assert count == len(table)


@pytest.mark.parametrize(
    ("spacing", "radius"),
    [((2.0, 0.5, 0.5), 6.0), ((1.3, 0.4, 0.3), 3.6), ((0.3, 0.9, 0.9), 5.4)],
)
def test_distances_are_those_in_the_specimen(
    spacing: tuple[float, ...], radius: float, tmp_path: Path
) -> None:
    """Two balls that overlap: their middles are deep if planes are as far apart as they are."""
    shape = [2 * int(1.1 * radius / spacing[0]) + 5, 2 * int(1.1 * radius / spacing[1]) + 5, 80]
    z, y, x = (i * side for i, side in zip(np.indices(shape), spacing, strict=True))
    middle = [n // 2 * side for n, side in zip(shape, spacing, strict=True)]
    balls = [
        (z - middle[0]) ** 2 + (y - middle[1]) ** 2 + (x - middle[2] - sign * 0.9 * r) ** 2 <= r**2
        for sign, r in ((-1, radius), (1, 1.05 * radius))
    ]
    image = (balls[0] | balls[1]).astype(np.uint8)

    def cut(**segment: Any) -> np.ndarray:
        content = {
            "source": {"dims": "3d", "pixel_size_um": list(spacing)},
            "segment": {
                "method": "watershed",
                "foreground": {"value": 0},
                "smooth_px": 0,
                **segment,
            },
        }
        recipe = parse_any_recipe(content, "recipe")
        found = check_labels(recipe, image, [Cut((4, 16, 16)), Cut((6, 40, 13), 1)], tmp_path)
        assert not isinstance(found, ImageError)
        return found["labels"].labels[0]

    deep = 0.7 * radius
    labels = cut(spacing="auto", markers={"from": "threshold", "value_um": deep})
    exact = ndimage.distance_transform_edt(image, sampling=spacing)
    zones = label(exact >= deep, connectivity=3)
    assert label(image, connectivity=3).max() == 1
    assert labels.max() == zones.max() == 2
    np.testing.assert_array_equal(labels > 0, image > 0)
    for zone in (1, 2):
        assert len(np.unique(labels[zones == zone])) == 1
    assert len(np.unique(labels[zones > 0])) == 2
    # In px, as if voxels were cubes, they are not so deep or all in one.
    in_px = {"from": "threshold", "value": deep / min(spacing)}
    assert cut(markers=in_px).max() != 2


def test_cubes_are_flooded_as_ever(tmp_path: Path) -> None:
    image = cells_and_nuclei((1, 6, 30, 30), 5)[:, :1]

    def labels(**segment: Any) -> np.ndarray:
        content = {
            "source": {"dims": "3d", "pixel_size_um": [0.5, 0.5, 0.5]},
            "segment": {"method": "watershed", "foreground": {"value": 30}, **segment},
        }
        recipe = parse_any_recipe(content, "recipe")
        return run_labels(recipe, image, tmp_path, Cut(30))["labels"].labels

    in_px = labels(min_distance_px=3, smooth_px=1, max_distance_px=20)
    in_um = labels(min_distance_um=1.5, smooth_um=0.5, max_distance_um=10)
    assert in_px.max() > 1
    np.testing.assert_array_equal(in_um, in_px)


def test_times_and_planes_are_segmented_each_by_itself(tmp_path: Path) -> None:
    image = cells_and_nuclei((3, 4, 24, 26), 2)
    content = {
        "source": {"channels": [1]},
        "segment": {"method": "threshold", "foreground": {"value": 60}},
    }
    recipe = parse_any_recipe({**content, "label": "cells"}, "recipe")
    whole = run_labels(recipe, image, tmp_path, Cut(9))["cells"].labels
    number = 0
    for t in range(3):
        for z in range(4):
            plane = label(image[t, 1, z] > 60, connectivity=2)
            np.testing.assert_array_equal(whole[t, z], np.where(plane > 0, plane + number, 0))
            number += plane.max()
    some = parse_any_recipe(
        {**content, "label": "cells", "source": {"channels": [1], "t": [2], "z": [1, 3]}}, "recipe"
    )
    found = run_labels(some, image, tmp_path, Cut(9))["cells"].labels
    assert found.shape == (1, 2, 24, 26)
    np.testing.assert_array_equal(found > 0, whole[2:, [1, 3]] > 0)
