"""Otsu's threshold of images and of whole datasets."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from skimage.filters import threshold_otsu

from pipeline.errors import MethodError
from pipeline.foreground import BINS, BOUNDS, COUNTS, THRESHOLD, ForegroundRule, ThresholdSurvey
from pipeline.grid import TileGrid
from pipeline.image import ImageInfo
from pipeline.methods.base import Context
from pipeline.recipe import parse_recipe
from pipeline.scratch import MemoryScratch
from pipeline.trial import Cut, plan_array, run_tiled, save_array
from pipeline.view import TileView

INFO = ImageInfo((1, 1, 1, 9, 9), "uint8", "yx", ("0",), (None,) * 3, None, (1, 1, 1, 9, 9))
CONTEXT = Context("image", TileGrid(1, (9, 9), (9, 9)), 1, "uint8", INFO)


def records_of(image: np.ndarray, folder: Path, side: int) -> list[dict[str, np.ndarray]]:
    recipe = parse_recipe({"segment": {"method": "threshold"}}, "recipe")
    job = plan_array(recipe, save_array(image, folder), side, folder)
    state = {"image.range": np.array([[np.nanmin(image), np.nanmax(image)]], float)}
    views = (TileView(job, tile, MemoryScratch(), state) for tile in job.grid.tiles())
    return [ThresholdSurvey("otsu", scope="dataset").map(view, state).record for view in views]


def threshold_of(records: list[dict[str, np.ndarray]]) -> float:
    pairs = list(enumerate(records))
    return float(ThresholdSurvey("otsu", scope="dataset").reduce(pairs, {})[THRESHOLD][0])


def test_nothing_counted_has_no_foreground() -> None:
    rule = ForegroundRule(objects="dark")
    pixels = np.zeros((3, 3), np.float32)
    assert not rule.of_pixels(pixels, None, {THRESHOLD: np.array([math.inf])}).any()


def test_floats_are_counted_in_bins_of_their_range(tmp_path: Path) -> None:
    image = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(60, 50)), 2)
    image = image.astype(np.float32)
    found = threshold_of(records_of(image, tmp_path, 16))
    edges = np.linspace(float(image.min()), float(image.max()), BINS + 1)
    counts, _ = np.histogram(image.astype(float), edges)
    expected = threshold_otsu(hist=(counts, (edges[1:] + edges[:-1]) / 2))
    assert abs(found - expected) <= (edges[1] - edges[0])
    assert found == threshold_of(records_of(image, tmp_path, 60))


def test_one_threshold_of_a_dataset_is_that_of_its_images_side_by_side(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    images = [generator.integers(0, top, (30, 41)).astype(np.uint8) for top in (60, 130, 250)]
    found = [record for image in images for record in records_of(image, tmp_path, 16)]
    together = threshold_otsu(np.concatenate(images))
    assert threshold_of(found) == together
    for seed in range(5):
        shuffled = [found[k] for k in np.random.default_rng(seed).permutation(len(found))]
        assert threshold_of(shuffled) == together
    assert together not in [threshold_otsu(image) for image in images]
    # The records of a batch may be combined first, in any grouping.
    survey = ThresholdSurvey("otsu", scope="dataset")
    halves = [survey.combine(found[:5]), survey.combine(found[5:])]
    assert threshold_of(halves) == together


def test_images_of_different_types_cannot_share_a_threshold(tmp_path: Path) -> None:
    found = records_of(np.ones((9, 9), np.uint8), tmp_path, 16)
    found += records_of(np.ones((9, 9), np.uint16), tmp_path, 16)
    with pytest.raises(MethodError, match="differ in dtype or value range"):
        threshold_of(found)


def test_the_scope_decides_who_surveys() -> None:
    assert ForegroundRule(scope="dataset").next_round({}, CONTEXT).scope == "dataset"
    assert ForegroundRule().next_round({}, CONTEXT).scope == "image"
    assert ForegroundRule(scope="dataset").is_dataset_wide()
    assert not ForegroundRule(value=3, scope="dataset").is_dataset_wide()
    assert ForegroundRule(value=3).next_round({}, CONTEXT) is None
    assert ForegroundRule().next_round({THRESHOLD: np.array([1.0])}, CONTEXT) is None


@pytest.mark.parametrize("objects", ["bright", "dark"])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "float32"])
def test_values_are_compared_in_exact_arithmetic(dtype: str, objects: str) -> None:
    limits = (-9, 9) if dtype == "float32" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    pixels = np.array([[limits[0], -2, -1, 0, 1, 2, 3, limits[1]]]).clip(*limits).astype(dtype)
    values = [-1e9, limits[0] - 1, limits[0], -1.5, -1, 0, 0.5, 1, 2.999, limits[1], 1e9]
    for value, valid in itertools.product(values, (None, np.arange(8)[None] % 3 > 0)):
        rule = ForegroundRule(value=value, objects=objects)
        exact = [float(p) > value for p in pixels[0]]
        expected = np.array([exact]) if objects == "bright" else ~np.array([exact])
        if valid is not None:
            expected &= valid
        assert np.array_equal(rule.of_pixels(pixels, valid, {}), expected), value


def test_a_given_value_is_used_as_it_is(tmp_path: Path) -> None:
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    segment = {"method": "threshold", "foreground": {"value": 6.5, "objects": "dark"}}
    result = run_tiled(parse_recipe({"segment": segment}, "r"), image, tmp_path, Cut(2))
    assert np.array_equal(result.labels[0, 0] > 0, image <= 6)
    assert "threshold" not in result.certificate


def test_records_hold_the_range_that_they_count() -> None:
    # What two images of one dtype must agree on; a survey of floats takes the dataset's range.
    record = {COUNTS: np.array([1, 0, 2]), BOUNDS: np.array([0.0, 2.0, 1.0])}
    state = ThresholdSurvey("otsu").reduce([(0, record), (1, record)], {"other": np.array(5)})
    assert float(state[THRESHOLD][0]) == threshold_otsu(np.array([0, 2, 2, 0, 2, 2]))
    assert state["other"] == 5


def test_several_thresholds_make_several_classes() -> None:
    rule = ForegroundRule(value="multi_otsu")
    assert rule.classes == 3
    state = {THRESHOLD: np.array([2.0, 5.5])}
    pixels = np.array([[0, 2, 3, 5, 6, 9]], np.uint8)
    assert rule.classes_of(pixels, None, state).tolist() == [[1, 1, 2, 2, 3, 3]]
    valid = np.array([[True, False, True, True, False, True]])
    assert rule.classes_of(pixels, valid, state).tolist() == [[1, 0, 2, 2, 0, 3]]
    assert rule.of_pixels(pixels, None, state).tolist() == [[False] * 4 + [True] * 2]
    dark = ForegroundRule(value="multi_otsu", objects="dark")
    assert dark.of_pixels(pixels, None, state).tolist() == [[True] * 2 + [False] * 4]


def test_only_multi_otsu_has_more_than_two_classes() -> None:
    with pytest.raises(ValueError, match="more than two classes need `value: multi_otsu`"):
        ForegroundRule(value="otsu", classes=3)
    assert ForegroundRule(value="multi_otsu", classes=2).classes == 2
