"""Thresholds of a histogram are those of scikit-image on the pixels."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage import filters, io

from pipeline.errors import MethodError
from pipeline.thresholds import FEW_BINS, Histogram, thresholds

DEMO = Path(__file__).parent / "data" / "demo"
RULES = ("otsu", "li", "triangle", "yen", "isodata", "mean")


def histogram_of(image: np.ndarray) -> Histogram:
    limits = np.iinfo(image.dtype)
    counts = np.bincount(
        image.reshape(-1).astype(np.int64) - limits.min, minlength=limits.max - limits.min + 1
    )
    return Histogram.of(counts, limits.min, limits.max, whole=True)


def real_images() -> list[np.ndarray]:
    found = [io.imread(path) for path in sorted(DEMO.rglob("*.png"))[:5]]
    grey = [image[..., 0] if image.ndim == 3 else image for image in found]
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.random((90, 80)), 4)
    wide = ((smooth - smooth.min()) / np.ptp(smooth) * 900 + 4000).astype(np.uint16)
    return [*grey, wide, (wide.astype(np.int32) - 4500).astype(np.int16)]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("number", range(7))
def test_real_images_give_the_threshold_of_scikit_image(rule: str, number: int) -> None:
    image = real_images()[number]
    expected = getattr(filters, f"threshold_{rule}")(image.copy())
    assert thresholds(rule, histogram_of(image)) == (float(expected),)  # type: ignore[arg-type]


@given(
    st.lists(st.integers(0, 255), min_size=2, max_size=80),
    st.sampled_from(RULES),
    st.sampled_from(["uint8", "int16", "uint16"]),
)
@settings(deadline=None, max_examples=300)
def test_any_whole_numbers_do(values: list[int], rule: str, dtype: str) -> None:
    image = np.array(values, dtype)
    if dtype == "int16":
        image -= np.int16(100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = float(getattr(filters, f"threshold_{rule}")(image.copy()))
    found = thresholds(rule, histogram_of(image))  # type: ignore[arg-type]
    assert found == (expected,) or (math.isnan(expected) and math.isnan(found[0]))


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("number", range(5))
def test_multi_otsu_is_that_of_scikit_image(classes: int, number: int) -> None:
    image = real_images()[number]
    expected = filters.threshold_multiotsu(image, classes=classes)
    assert thresholds("multi_otsu", histogram_of(image), classes) == tuple(expected.tolist())


def test_minimum_is_that_of_scikit_image_or_refused() -> None:
    checked = 0
    for image in real_images()[:5]:
        try:
            expected = filters.threshold_minimum(image)
        except RuntimeError:
            with pytest.raises(MethodError, match=r"cells: the `minimum` threshold needs .* two"):
                thresholds("minimum", histogram_of(image), name="cells")
        else:
            assert thresholds("minimum", histogram_of(image)) == (float(expected),)
            checked += 1
    assert checked


@pytest.mark.parametrize("rule", [*RULES, "multi_otsu", "minimum"])
def test_one_value_or_none(rule: str) -> None:
    nothing = Histogram.of(np.zeros(256, int), 0, 255, whole=True)
    assert thresholds(rule, nothing, 3) == (math.inf,)  # type: ignore[arg-type]
    one = histogram_of(np.full(9, 7, np.uint8))
    assert thresholds(rule, one, 3) == (7.0,)  # type: ignore[arg-type]


def test_multi_otsu_of_fewer_values_than_classes() -> None:
    image = np.array([3, 3, 90, 90, 90], np.uint8)
    assert thresholds("multi_otsu", histogram_of(image), 4) == (3.0,)


@pytest.mark.parametrize("rule", [*RULES, "multi_otsu"])
def test_floats_come_within_a_bin_of_scikit_image(rule: str) -> None:
    rng = np.random.default_rng(2)
    image = ndimage.gaussian_filter(rng.random((200, 210)), 3).astype(np.float32)
    image[50:100, 50:120] += np.float32(0.3)
    low, high = float(image.min()), float(image.max())
    counts, _ = np.histogram(image.astype(float), 65536, (low, high))
    found = thresholds(rule, Histogram.of(counts, low, high, whole=False), 2)  # type: ignore[arg-type]
    # Yen's value moves with the number of bins, so both count in the same ones.
    options = {"nbins": 65536} if rule in ("otsu", "yen", "isodata") else {}
    name = rule.replace("_", "") if rule == "multi_otsu" else rule
    options |= {"classes": 2} if rule == "multi_otsu" else {}
    expected = np.atleast_1d(getattr(filters, f"threshold_{name}")(image.copy(), **options))
    assert np.abs(np.array(found) - expected).max() <= 2.01 * (high - low) / FEW_BINS


def test_few_bins_keep_every_count() -> None:
    counts = np.random.default_rng(3).integers(1, 9, 3001)
    many = Histogram.of(counts, 100, 3100, whole=True)
    few = many.with_few_bins()
    assert len(few.counts) == FEW_BINS
    assert few.counts.sum() == counts.sum()
    mean = np.average(many.centres, weights=many.counts)
    assert abs(np.average(few.centres, weights=few.counts) - mean) < 3001 / FEW_BINS / 2
