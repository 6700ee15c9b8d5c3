"""Clusterings against scikit-learn from the same start, and what they see of a pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.color import rgb2lab
from sklearn import cluster, mixture

from pipeline.errors import MethodError, RecipeError
from pipeline.features import unique_rows
from pipeline.kernels.classify import most_likely, nearest_centre
from pipeline.kernels.lab import lab
from pipeline.kernels.sampling import sampled_pixels
from pipeline.methods.gmm import CONSTANTS, MEANS, PRECISIONS, GaussianMixture
from pipeline.methods.kmeans import CENTRES, SCALE, SHIFT, KMeans
from pipeline.modes import estimated_bandwidth, modes
from pipeline.recipe import parse_recipe
from pipeline.thresholds import Histogram
from pipeline.trial import Cut, run_tiled, run_untiled


def colours(shape: tuple[int, int] = (48, 53)) -> np.ndarray:
    rng = np.random.default_rng(4)
    rough = np.stack([ndimage.gaussian_filter(rng.random(shape), 3) for _ in range(3)])
    low, high = rough.min(), rough.max()
    return ((rough - low) / (high - low) * 255).astype(np.uint8)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float64"])
def test_lab_is_that_of_scikit_image(dtype: str) -> None:
    white = {"uint8": 255.0, "uint16": 65535.0, "float64": 1.0}[dtype]
    rgb = (np.random.default_rng(0).random((3, 40, 30)) * white).astype(dtype)
    expected = np.moveaxis(rgb2lab(np.moveaxis(rgb, 0, -1)), -1, 0)
    assert np.abs(lab(rgb, white) - expected).max() < 1e-9


@pytest.mark.parametrize("standardize", [False, True])
def test_kmeans_is_that_of_scikit_learn(standardize: bool) -> None:
    rows = colours().reshape(3, -1).T.astype(float)
    values, counts = unique_rows(rows, np.ones(len(rows), np.int64))
    model = KMeans(method="kmeans", k=4, restarts=2, standardize=standardize, tolerance=0)
    state = model.fit(values, counts)
    scaled = (rows - rows.mean(0)) / rows.std(0) if standardize else rows
    # From the same start: Lloyd's iterations do not see weights or the order of the pixels.
    again = cluster.KMeans(4, init=state[CENTRES], n_init=1, tol=0).fit(scaled)
    assert np.abs(again.cluster_centers_ - state[CENTRES]).max() < 1e-6
    labels = nearest_centre(rows.T, state[SHIFT], state[SCALE], state[CENTRES])
    assert np.array_equal(labels, again.labels_ + 1)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_gmm_is_that_of_scikit_learn(covariance: str) -> None:
    rows = colours().reshape(3, -1).T.astype(float)
    values, counts = unique_rows(rows, np.ones(len(rows), np.int64))
    model = GaussianMixture(
        method="gmm", k=3, covariance=covariance, tolerance=1e-6, max_iterations=500
    )
    state = model.fit(values, counts)
    other = mixture.GaussianMixture(
        3, covariance_type="full" if covariance == "full" else "diag", tol=1e-6, max_iter=500,
        random_state=0,
    )  # fmt: skip
    other.fit(np.repeat(values, counts, axis=0))
    order = np.argsort(other.means_[:, 0])
    assert np.abs(other.means_[order] - state[MEANS]).max() < 1e-6
    found = most_likely(rows.T, state[MEANS], state[PRECISIONS], state[CONSTANTS])
    place = np.argsort(order)
    assert np.array_equal(found, place[other.predict(rows)] + 1)


@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.01, 0.3, 1.0, 2.0]))
@settings(deadline=None, max_examples=40)
def test_a_sample_does_not_see_tiles(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 30, 3)
    strides = np.array([shape[1] * shape[2], shape[2], 1])
    whole = sampled_pixels(0, strides, shape, share)
    if share >= 1:
        assert len(whole) == shape.prod()
    start = np.array([rng.integers(0, n) for n in shape])
    stop = np.array([rng.integers(a, n) + 1 for a, n in zip(start, shape, strict=True)])
    part = sampled_pixels(int((start * strides).sum()), strides, stop - start, share)
    places = np.stack(np.unravel_index(part, stop - start), axis=1) + start
    inside = np.stack(np.unravel_index(whole, shape), axis=1)
    inside = inside[((inside >= start) & (inside < stop)).all(axis=1)]
    assert np.array_equal(places, inside)


def test_a_sample_has_about_the_share_that_is_asked() -> None:
    shape = np.array([1, 1000, 1000])
    found = sampled_pixels(10**12, np.array([10**6, 1000, 1]), shape, 0.01)
    assert abs(len(found) - 10_000) < 400
    assert np.abs(np.diff(np.histogram(found % 1000, 10)[0])).max() < 250


def test_unique_rows() -> None:
    rows = np.array([[2, 1], [1, 5], [2, 1], [1, 4.0]])
    values, counts = unique_rows(rows, np.array([1, 2, 3, 4]))
    assert values.tolist() == [[1, 4], [1, 5], [2, 1]]
    assert counts.tolist() == [4, 2, 4]


@pytest.mark.parametrize("method", ["kmeans", "gmm"])
def test_fewer_values_than_classes(method: str, tmp_path: Path) -> None:
    image = np.where(np.indices((20, 21))[1] < 9, 3, 200).astype(np.uint8)
    recipe = parse_recipe({"segment": {"method": method, "k": 5}}, "recipe")
    result = run_untiled(recipe, image, tmp_path)
    assert np.array_equal(result.labels[0, 0], np.where(image == 3, 1, 2))
    assert result.table["class"].to_pylist() == ["class 1", "class 2"]


def test_a_sampled_model_is_the_same_for_every_tile_size(tmp_path: Path) -> None:
    segment = {"method": "kmeans", "k": 4, "color_space": "lab", "sample_px": 1000}
    recipe = parse_recipe({"segment": segment}, "recipe")
    image = colours((70, 90))[:, None]
    whole = run_untiled(recipe, image, tmp_path)
    assert sampled_pixels(0, np.array([6300, 90, 1]), np.array([1, 70, 90]), 1 / 6.3).size > 700
    tiled = run_tiled(recipe, image, tmp_path, Cut(17, order=3, batch_tiles=2))
    assert tiled.digest == whole.digest
    assert tiled.certificate == whole.certificate


def test_lab_needs_three_channels(tmp_path: Path) -> None:
    recipe = parse_recipe({"segment": {"method": "gmm", "color_space": "lab"}}, "recipe")
    with pytest.raises(MethodError, match=r"takes red, green and blue, 1 channels are selected"):
        run_untiled(recipe, np.ones((5, 5), np.uint8), tmp_path)


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        ({"class_names": ["a", "b"]}, "class_names has 2 entries for 3 classes"),
        ({"class_colors": ["#12345"]}, r"class_colors\.0: .*pattern"),
        ({"object_classes": [4], "output": "labels"}, "object_classes has 4; classes are 1 to 3"),
        ({"object_classes": [2]}, "need `output: labels`"),
    ],
)
def test_what_a_recipe_says_of_classes_is_checked(segment: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe({"segment": {"method": "kmeans", **segment}}, "recipe")


def test_classes_have_no_size(tmp_path: Path) -> None:
    content = {"segment": {"method": "kmeans"}, "postprocess": {"min_size_px": 4}}
    with pytest.raises(RecipeError, match=r"postprocess: it acts on objects.* `output: labels`"):
        parse_recipe(content, "recipe")


@pytest.mark.parametrize("bandwidth", [4.0, 11.5, 30.0, 90.0])
@pytest.mark.parametrize("seed", range(4))
def test_modes_are_those_of_scikit_learn(bandwidth: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = [rng.normal(m, s, n) for m, s, n in ((30, 8, 300), (90, 12, 200), (200, 20, 150))]
    grey = np.concatenate(groups).clip(0, 255).astype(np.uint8)
    histogram = Histogram.of(np.bincount(grey, minlength=256), 0, 255, whole=True)
    model = cluster.MeanShift(bandwidth=bandwidth).fit(grey[:, None].astype(float))
    expected = np.sort(model.cluster_centers_[:, 0])
    found = modes(histogram, bandwidth, 64)
    assert len(found) == len(expected)
    assert np.abs(found - expected).max() < 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_the_bandwidth_is_that_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grey = np.concatenate([rng.normal(40, 5, 300), rng.normal(120, 30, 200)])
    grey = grey.clip(0, 255).astype(np.uint8)
    histogram = Histogram.of(np.bincount(grey, minlength=256), 0, 255, whole=True)
    expected = cluster.estimate_bandwidth(grey[:, None].astype(float), quantile=0.3)
    assert abs(estimated_bandwidth(histogram) - expected) < 1e-9


def test_only_the_strongest_modes_are_kept() -> None:
    counts = np.zeros(256, int)
    counts[[10, 100, 200]] = 50, 10, 30
    histogram = Histogram.of(counts, 0, 255, whole=True)
    assert modes(histogram, 5, 2).tolist() == [10, 200]
    nothing = Histogram.of(np.zeros(256, int), 0, 255, whole=True)
    assert len(modes(nothing, 5, 2)) == 0
