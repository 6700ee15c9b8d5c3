"""Squared distances against scipy and against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import distance_transform_edt

from pipeline.kernels.distance import (
    MAX_LIMIT_PX,
    Metric,
    distance_steps,
    metric_of,
    squared_distance,
)

MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=9))


def brute_force(mask: np.ndarray, limit: int) -> np.ndarray:
    outside = np.argwhere(~mask)
    result = np.zeros(mask.shape, np.int64)
    for p in np.argwhere(mask):
        nearest = ((outside - p) ** 2).sum(axis=1).min(initial=limit * limit)
        result[tuple(p)] = min(nearest, limit * limit)
    return result


@given(mask=MASKS, limit=st.integers(1, 12))
@settings(max_examples=200, deadline=None)
def test_equals_brute_force(mask: np.ndarray, limit: int) -> None:
    found = squared_distance(mask, limit)
    assert found.dtype == np.int32
    assert np.array_equal(found, brute_force(mask, limit))


@pytest.mark.parametrize("shape", [(150, 170), (30, 41, 52)])
@pytest.mark.parametrize("density", [0.6, 0.97, 0.9995])
def test_equals_scipy(shape: tuple[int, ...], density: float) -> None:
    mask = np.random.default_rng(0).random(shape) < density
    exact = np.rint(distance_transform_edt(mask) ** 2).astype(np.int64)
    assert np.array_equal(squared_distance(mask, 500), exact)
    assert np.array_equal(squared_distance(mask, 7), np.minimum(exact, 49))


@pytest.mark.parametrize("spacing", [(2.0, 0.5, 0.5), (1.0, 0.25, 0.3), (0.4, 1.3, 0.9), (3, 1)])
@pytest.mark.parametrize("density", [0.6, 0.97, 0.9995])
def test_equals_scipy_with_voxels_that_are_no_cubes(
    spacing: tuple[float, ...], density: float
) -> None:
    mask = np.random.default_rng(0).random((30, 41, 52)[-len(spacing) :]) < density
    metric = metric_of(spacing, 500)
    sampling = np.sqrt(np.array(metric.weights) / metric.parts)
    np.testing.assert_allclose(sampling, np.array(spacing) / min(spacing), rtol=2e-4)
    exact = np.rint(distance_transform_edt(mask, sampling=sampling) ** 2 * metric.parts)
    assert np.array_equal(squared_distance(mask, 500, metric), exact.astype(np.int64))
    capped = np.minimum(exact, 49 * metric.parts)
    assert np.array_equal(squared_distance(mask, 7, metric), capped)


def test_the_order_is_that_of_the_true_voxels() -> None:
    mask = np.random.default_rng(3).random((20, 41, 52)) < 0.99
    true = distance_transform_edt(mask, sampling=(2.5, 0.5, 0.5))
    ours = squared_distance(mask, 200, metric_of((2.5, 0.5, 0.5), 200))
    order = np.argsort(ours.ravel(), kind="stable")
    assert np.all(np.diff(true.ravel()[order]) >= -1e-9)
    assert len(np.unique(np.rint(true * 1e6))) == len(np.unique(ours))


@pytest.mark.parametrize(
    ("spacing", "limit", "metric"),
    [
        ((0.3, 0.3), 2000, Metric((1, 1))),
        ((2, 1, 1), 724, Metric((16384, 4096, 4096), 4096)),
        ((2, 1, 1), 725, Metric((4096, 1024, 1024), 1024)),
        ((1, 2), 2000, Metric((256, 1024), 256)),
    ],
)
def test_squares_of_sides_are_whole_numbers(
    spacing: tuple[float, ...], limit: int, metric: Metric
) -> None:
    assert metric_of(spacing, limit) == metric


def test_a_metric_must_fit() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        squared_distance(np.ones((2, 2), np.bool_), 2000, Metric((4096, 8192), 4096))


@pytest.mark.parametrize("shape", [(5, 6), (3, 4, 5)])
def test_without_background_everything_is_saturated(shape: tuple[int, ...]) -> None:
    assert np.all(squared_distance(np.ones(shape, np.bool_), 9) == 81)
    widest = squared_distance(np.ones(shape, np.bool_), MAX_LIMIT_PX)
    assert np.all(widest == MAX_LIMIT_PX**2)


def test_any_number_but_zero_is_inside() -> None:
    mask = np.array([[0, 1, 255, 7, 0]], np.uint8)
    assert squared_distance(mask, 10).tolist() == [[0, 1, 4, 1, 0]]


def test_accepts_strided_and_read_only_masks() -> None:
    mask = np.random.default_rng(1).random((20, 30)) < 0.8
    mask.flags.writeable = False
    assert np.array_equal(squared_distance(mask.T, 20), squared_distance(mask, 20).T)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0)])
def test_empty_mask(shape: tuple[int, int]) -> None:
    assert squared_distance(np.zeros(shape, np.bool_), 3).shape == shape


@pytest.mark.parametrize("limit", [0, -1, MAX_LIMIT_PX + 1])
def test_refuses_limits_beyond_int32(limit: int) -> None:
    with pytest.raises(ValueError, match="limit_px"):
        squared_distance(np.ones((2, 2), np.bool_), limit)


def test_equal_in_every_crop_that_holds_the_object_and_its_rim() -> None:
    mask = np.zeros((40, 50), np.bool_)
    mask[10:25, 12:33] = True
    mask[14:18, 20:23] = False
    whole = squared_distance(mask, 100)
    for top, left in [(9, 11), (0, 5), (4, 0)]:
        crop = squared_distance(mask[top:26, left:34], 100)
        assert np.array_equal(crop, whole[top:26, left:34])


@pytest.mark.parametrize("steps", [1, 3, 64, 1000])
def test_steps_are_exact_around_every_square(steps: int) -> None:
    roots = np.arange(1, 2000, dtype=np.int64)
    near = np.concatenate([roots**2 - 1, roots**2, roots**2 + 1]).astype(np.int32)
    exact = [math.isqrt(int(d) * steps * steps) for d in near]
    assert distance_steps(near, steps).tolist() == exact


def test_steps_are_exact_at_the_limits_of_int32() -> None:
    large = np.array([MAX_LIMIT_PX**2, MAX_LIMIT_PX**2 - 1, 2**31 - 1], np.int32)
    for steps in (64, 46340):
        exact = [math.isqrt(int(d) * steps * steps) for d in large]
        assert distance_steps(large.copy(), steps).tolist() == exact


@given(st.lists(st.integers(0, 2**31 - 1), max_size=50), st.integers(1, 46340))
@settings(deadline=None)
def test_steps_are_integer_roots(squared: list[int], steps: int) -> None:
    exact = [math.isqrt(d * steps * steps) for d in squared]
    assert distance_steps(np.array(squared, np.int32), steps).tolist() == exact


def test_steps_keep_the_shape() -> None:
    assert distance_steps(np.full((2, 3, 4), 4, np.int32)).tolist() == [[[128] * 4] * 3] * 2


def test_steps_refuse_what_cannot_be_overwritten() -> None:
    squared = np.ones((4, 5), np.int32)
    for wrong in (squared.T, squared.astype(np.int64)):
        with pytest.raises(ValueError, match="writeable"):
            distance_steps(wrong)


@pytest.mark.parametrize("steps", [0, 46341])
def test_refuses_steps_that_overflow(steps: int) -> None:
    with pytest.raises(ValueError, match="steps_per_px"):
        distance_steps(np.ones((1, 1), np.int32), steps)
