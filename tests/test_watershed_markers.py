"""Watershed from every kind of marker, on every landscape: against scikit-image, and tiled."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage import filters, measure, morphology, segmentation

from pipeline.conformance import check_image
from pipeline.errors import MethodError, RecipeError
from pipeline.gradient import gradient_magnitude
from pipeline.recipe import Recipe, parse_recipe
from pipeline.trial import Cut, Result, run_tiled, run_untiled

Content = dict[str, Any]
SOME = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])


def watershed(**segment: object) -> Recipe:
    return parse_recipe({"segment": {"method": "watershed", **segment}}, "recipe")


def distinct(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Rough hills without two equal values."""
    rough = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 1.5)
    rank = np.empty(rough.size, np.uint16)
    rank[np.argsort(rough, axis=None)] = np.arange(rough.size)
    return rank.reshape(shape)


def renumbered(labels: np.ndarray) -> np.ndarray:
    """The same partition, numbered by first pixels in raster order."""
    found, first = np.unique(labels, return_index=True)
    first, found = first[found > 0], found[found > 0]
    number = np.zeros(int(labels.max(initial=0)) + 1, np.int64)
    number[found[np.argsort(first)]] = np.arange(1, len(found) + 1)
    return number[labels]


def some_markers(shape: tuple[int, ...], count: int, seed: int) -> np.ndarray:
    """Blots with numbers, some numbers twice."""
    generator = np.random.default_rng(seed)
    found = np.zeros(shape, np.int32)
    for k in range(count):
        place = tuple(slice(i, i + 2) for i in (generator.integers(0, n) for n in shape))
        found[place] = k % max(1, count - 2) + 3
    return found


# --- Against scikit-image on images without ties --------------------------------------------------


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("connectivity", [4, 8])
def test_given_labels_flood_the_gradient_as_scikit_image_does(
    masked: bool, connectivity: int, tmp_path: Path
) -> None:
    image = np.random.default_rng(1).random((48, 61)).astype(np.float32)
    image = ndimage.gaussian_filter(image, 1.2)
    marked = some_markers(image.shape, 12, 2)
    tifffile.imwrite(tmp_path / "seeds.tif", marked.astype(np.uint16))
    limit = float(np.median(image))
    recipe = watershed(
        foreground={"value": limit},
        masked=masked,
        landscape="gradient",
        markers={"from": "labels", "file": str(tmp_path / "seeds.tif")},
        connectivity=connectivity,
    )
    mask = image > np.float32(limit) if masked else np.ones(image.shape, bool)
    steep = gradient_magnitude(image[None])
    assert len(np.unique(steep)) > 0.999 * steep.size
    expected = segmentation.watershed(
        steep, marked * mask, mask=mask, connectivity=1 if connectivity == 4 else 2
    )
    for cut in (Cut(100), Cut((13, 20), 3)):
        found = run_tiled(recipe, image, tmp_path, cut).labels[0, 0]
        assert np.array_equal(found, renumbered(expected))


def test_given_points_flood_intensity_as_scikit_image_does(tmp_path: Path) -> None:
    image = distinct((40, 50))
    points = [(3, 4), (20, 20), (21, 40), (38, 1), (9, 33)]
    text = "y,x\n" + "".join(f"{y},{x}\n" for y, x in points)
    (tmp_path / "seeds.csv").write_text(text)
    recipe = watershed(
        masked=False,
        landscape="intensity",
        markers={"from": "points", "file": str(tmp_path / "seeds.csv")},
    )
    marked = np.zeros(image.shape, int)
    for k, place in enumerate(points):
        marked[place] = k + 1
    expected = segmentation.watershed(-image.astype(int), marked, connectivity=2)
    found = run_tiled(recipe, image, tmp_path, Cut(16, 1)).labels[0, 0]
    assert np.array_equal(found, renumbered(expected))
    assert found.max() == 5


@pytest.mark.parametrize("h", [1, 50, 400, 2000])
@pytest.mark.parametrize("objects", ["bright", "dark"])
def test_h_minima_are_those_of_scikit_image(h: int, objects: str, tmp_path: Path) -> None:
    image = distinct((45, 52), 4)
    recipe = watershed(
        foreground={"value": 1000, "objects": objects},
        masked=False,
        landscape="intensity",
        markers={"from": "h_minima", "h": h},
    )
    altitude = image.astype(int) * (-1 if objects == "bright" else 1)
    deep = morphology.h_minima(altitude, h, footprint=np.ones((3, 3)))
    marked = measure.label(deep, connectivity=2)
    expected = segmentation.watershed(altitude, marked, connectivity=2)
    found = run_tiled(recipe, image, tmp_path, Cut((17, 19), 2)).labels[0, 0]
    assert np.array_equal(found, renumbered(expected))
    assert found.max() == marked.max()


def test_the_deepest_place_is_a_marker_however_large_h_is(tmp_path: Path) -> None:
    recipe = watershed(
        foreground={"value": 5},
        landscape="intensity",
        markers={"from": "h_minima", "h": 1e12},
    )
    image = np.array([[1, 9, 7, 8, 1, 1, 7, 1]], np.uint8)
    found = run_untiled(recipe, image, tmp_path).labels[0, 0]
    assert found.tolist() == [[0, 1, 1, 1, 0, 0, 2, 0]]


def test_h_minima_of_equal_depth_in_one_basin_are_one_marker(tmp_path: Path) -> None:
    # Two equal tops with a shallow saddle: scikit-image's h_minima marks both.
    image = np.array([[1, 9, 8, 9, 1, 1, 7, 1]], np.uint8)
    recipe = watershed(
        foreground={"value": 0}, landscape="intensity", markers={"from": "h_minima", "h": 3}
    )
    found = run_untiled(recipe, image, tmp_path).labels[0, 0]
    assert found.tolist() == [[1, 1, 1, 1, 1, 2, 2, 2]]


@pytest.mark.parametrize("landscape", ["intensity", "distance", "gradient"])
def test_zones_beyond_a_value_are_markers(landscape: str, tmp_path: Path) -> None:
    image = distinct((40, 44), 6)
    mask = image > 500
    value = {"intensity": 1400, "distance": 2.9, "gradient": 61.0}[landscape]
    recipe = watershed(
        foreground={"value": 500},
        landscape=landscape,
        smooth_px=0,
        markers={"from": "threshold", "value": value},
    )
    if landscape == "intensity":
        high, altitude = image >= 1400, -image.astype(float)
    elif landscape == "gradient":
        altitude = gradient_magnitude(image[None]).astype(float)
        high = altitude <= 61.0
    else:
        # Behind the border there is no background.
        steps = np.floor(ndimage.distance_transform_edt(mask) * 64).astype(int)
        high, altitude = steps >= np.ceil(2.9 * 64), -steps
    marked = measure.label(high & mask, connectivity=2)
    expected = segmentation.watershed(altitude, marked, mask=mask, connectivity=2)
    found = run_tiled(recipe, image, tmp_path, Cut((17, 19), 2)).labels[0, 0]
    assert found.max() == marked.max() > 3
    if landscape == "distance":  # many ties
        assert (found != renumbered(expected)).mean() < 0.02
        assert np.array_equal(found > 0, expected > 0)
    else:
        assert np.array_equal(found, renumbered(expected))


@pytest.mark.parametrize("shape", [(30, 41), (9, 14, 12)])
def test_the_gradient_is_that_of_scikit_image(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(3).integers(0, 60000, shape).astype(np.uint16)
    found = gradient_magnitude(image[None])
    np.testing.assert_allclose(found, filters.sobel(image.astype(float)), rtol=1e-6)
    twice = gradient_magnitude(np.stack([image, image]))
    np.testing.assert_allclose(twice, found * np.sqrt(2), rtol=1e-6)


# --- Lines ---------------------------------------------------------------------------------------


def test_lines_part_the_objects_and_nothing_else(tmp_path: Path) -> None:
    image = distinct((50, 60), 8)
    fields: Content = {"foreground": {"value": 700}, "landscape": "intensity"}
    plain = run_untiled(watershed(**fields), image, tmp_path).labels[0, 0].astype(int)
    for connectivity, offsets in ((4, 1), (8, 2)):
        recipe = watershed(**fields, lines=True, connectivity=connectivity)
        whole = run_untiled(watershed(**fields, connectivity=connectivity), image, tmp_path)
        plain = whole.labels[0, 0].astype(int)
        found = run_tiled(recipe, image, tmp_path, Cut((13, 17), 5)).labels[0, 0].astype(int)
        structure = ndimage.generate_binary_structure(2, offsets)
        # Of the pixel's neighbours the smallest label above 0.
        among = np.where(plain > 0, plain, plain.max() + 1)
        smallest = ndimage.minimum_filter(among, footprint=structure, mode="nearest")
        expected = np.where((plain > 0) & (smallest < plain), 0, plain)
        assert np.array_equal(found, renumbered(expected))
        assert 0 < (expected != plain).sum() < 0.5 * (plain > 0).sum()
        for label in range(1, found.max() + 1):
            around = ndimage.binary_dilation(found == label, structure)
            assert set(np.unique(found[around])) <= {0, label}


def test_the_table_measures_what_the_lines_leave(tmp_path: Path) -> None:
    image = np.full((3, 8), 9, np.uint8)
    (tmp_path / "seeds.csv").write_text("y,x\n1,0\n1,7\n")
    recipe = watershed(
        foreground={"value": 1},
        landscape="intensity",
        markers={"from": "points", "file": str(tmp_path / "seeds.csv")},
        lines=True,
    )
    result = run_tiled(recipe, image, tmp_path, Cut(3))
    assert result.labels[0, 0].tolist() == [[1, 1, 1, 1, 0, 2, 2, 2]] * 3
    assert result.table["area_px"].to_pylist() == [12, 9]


# --- Foreground by another method ----------------------------------------------------------------


def test_classes_of_any_method_are_flooded(tmp_path: Path) -> None:
    image = distinct((40, 44), 3)
    classes = {"method": "kmeans", "k": 3}
    by_map = run_untiled(parse_recipe({"segment": classes}, "r"), image, tmp_path)
    mask = (by_map.labels[0, 0] >= 2).astype(np.uint8)
    chosen = {**classes, "output": "labels", "object_classes": [2, 3]}
    found = run_tiled(watershed(foreground=chosen), image, tmp_path, Cut(15, 2))
    expected = run_untiled(watershed(foreground={"value": 0}), mask, tmp_path)
    assert np.array_equal(found.labels, expected.labels)
    assert "centres" in found.certificate


def test_colours_are_flooded_by_distance_or_gradient_only(tmp_path: Path) -> None:
    image = np.stack([distinct((30, 33), s) for s in range(3)])[:, None]
    classes = {"method": "kmeans", "k": 2, "output": "labels"}
    for landscape in ("distance", "gradient"):
        recipe = watershed(foreground=classes, landscape=landscape)
        result = check_image(recipe, image, [Cut(11, 3)], tmp_path)
        assert isinstance(result, Result)
        assert result.labels.max() > 3
    with pytest.raises(MethodError, match="takes one channel, 3 are selected"):
        run_untiled(watershed(foreground=classes, landscape="intensity"), image, tmp_path)


# --- Tiled equals untiled with files -------------------------------------------------------------


@given(
    seed=st.integers(0, 2**16),
    shape=st.tuples(st.integers(4, 24), st.integers(4, 24)),
    kind=st.sampled_from(["points", "labels"]),
    landscape=st.sampled_from(["distance", "intensity", "gradient"]),
    count=st.integers(0, 9),
    lines=st.booleans(),
    margin=st.sampled_from([1, 1, 16]),
    cut=st.builds(Cut, st.tuples(st.integers(2, 9), st.integers(2, 9)), st.integers(0, 99)),
)
@SOME
def test_given_markers_are_exact(
    seed: int,
    shape: tuple[int, int],
    kind: str,
    landscape: str,
    count: int,
    lines: bool,
    margin: int,
    cut: Cut,
) -> None:
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 4, shape).astype(np.uint8)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if kind == "points":
            places = np.stack([generator.integers(0, n, count) for n in shape], axis=1)
            path = folder / "seeds.csv"
            path.write_text("y,x\n" + "".join(f"{y},{x}\n" for y, x in places))
        else:
            path = folder / "seeds.tif"
            tifffile.imwrite(path, some_markers(shape, count, seed).astype(np.uint8))
        recipe = watershed(
            foreground={"value": 0},
            landscape=landscape,
            markers={"from": kind, "file": str(path)},
            lines=lines,
        )
        with mock.patch("pipeline.watershed.flood.MARGIN_PX", (margin, margin)):
            result = check_image(recipe, image, [cut], folder)
        assert isinstance(result, Result)


def test_frames_have_their_own_markers(tmp_path: Path) -> None:
    stack = np.stack([distinct((20, 24), s) for s in range(3)])
    marked = np.stack([some_markers((20, 24), 5, s) for s in range(3)])
    tifffile.imwrite(
        tmp_path / "seeds.tif",
        marked.astype(np.uint16),
        metadata={"axes": "ZYX"},
        photometric="minisblack",
    )
    recipe = watershed(
        masked=False,
        landscape="intensity",
        markers={"from": "labels", "file": str(tmp_path / "seeds.tif")},
    )
    result = check_image(recipe, stack, [Cut(9, 1)], tmp_path)
    assert isinstance(result, Result)
    planes = [len(np.unique(plane)) for plane in result.labels[0]]
    assert planes == [len(np.unique(m)) - 1 for m in marked]
    assert result.labels.max() == sum(planes)


def test_volumes_have_all_markers(tmp_path: Path) -> None:
    volume = distinct((9, 16, 18), 5)
    path = tmp_path / "seeds.tif"
    tifffile.imwrite(path, some_markers(volume.shape, 8, 3).astype(np.uint8))
    for markers in (
        {"from": "labels", "file": str(path)},
        {"from": "h_minima", "h": 200},
        {"from": "threshold", "value": 2000},
    ):
        segment = {
            "method": "watershed",
            "foreground": {"value": 600},
            "landscape": "intensity",
            "markers": markers,
            "lines": True,
        }
        recipe = parse_recipe({"source": {"dims": "3d"}, "segment": segment}, "recipe")
        with mock.patch("pipeline.watershed.flood.MARGIN_PX", (1, 1)):
            result = check_image(recipe, volume, [Cut((4, 7, 8), 2)], tmp_path)
        assert isinstance(result, Result)
        assert result.labels.max() > 2


# --- What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        ({"masked": False}, "no background to take distances to"),
        ({"markers": {"from": "h_minima", "h": 0}}, "greater than 0"),
        ({"markers": {"from": "peeks"}}, "peaks"),
        ({"markers": {"from": "points"}}, "file"),
        ({"markers": {"from": "points", "file": "{name}.csv"}}, "name a file beside the image"),
        ({"markers": {"from": "threshold", "value": 1}, "min_distance_px": 3}, "is of peaks"),
        ({"foreground": {"method": "watershed"}}, "watershed gives no classes"),
        ({"foreground": {"method": "kmeens"}}, "did you mean 'kmeans'"),
    ],
)
def test_fields_that_do_not_fit_are_explained(segment: Content, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        watershed(**segment)


def test_a_label_image_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "seeds.tif"
    recipe = watershed(markers={"from": "labels", "file": str(path)})
    image = distinct((20, 24))
    with pytest.raises(MethodError, match=r"markers file .*seeds\.tif does not exist"):
        run_untiled(recipe, image, tmp_path)
    tifffile.imwrite(path, np.zeros((20, 25), np.uint8))
    with pytest.raises(MethodError, match=r"\(1, 1, 1, 20, 25\), the image has \(1, 1, 1, 20, 24"):
        run_untiled(recipe, image, tmp_path)
    tifffile.imwrite(path, np.zeros((20, 24), np.float32))
    with pytest.raises(MethodError, match="is no image of whole numbers"):
        run_untiled(recipe, image, tmp_path)
