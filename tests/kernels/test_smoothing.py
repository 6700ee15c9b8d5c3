"""Smoothing inside regions against a direct sum in Python integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import gaussian_filter

from pipeline.kernels.smoothing import WEIGHT_BITS, gaussian_weights, radius_px, smooth_within

SHAPES = hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=8)


def direct_sum(values: np.ndarray, region: np.ndarray, sigma: float) -> np.ndarray:
    weights = [int(w) for w in gaussian_weights(sigma)]
    radius = len(weights) // 2
    for axis in range(values.ndim):
        result = np.zeros_like(values)
        for p in np.argwhere(region != 0):
            total = 0
            for k, weight in enumerate(weights):
                q = p.copy()
                q[axis] += k - radius
                if 0 <= q[axis] < values.shape[axis] and region[tuple(q)] == region[tuple(p)]:
                    total += weight * int(values[tuple(q)])
            result[tuple(p)] = (2 * total + 2**WEIGHT_BITS) // 2 ** (WEIGHT_BITS + 1)
        values = result
    return values


@given(data=st.data(), shape=SHAPES, sigma=st.sampled_from([0.1, 0.5, 1.0, 1.7, 3.0]))
@settings(max_examples=150, deadline=None)
def test_equals_the_direct_sum(data: st.DataObject, shape: tuple[int, ...], sigma: float) -> None:
    values = data.draw(hnp.arrays(np.int32, shape))
    region = data.draw(hnp.arrays(np.int32, shape, elements=st.integers(0, 3)))
    smoothed = smooth_within(values.copy(), region, sigma)
    assert smoothed.dtype == np.int32
    assert np.array_equal(smoothed, direct_sum(values, region, sigma))


def test_every_axis_may_have_its_own_sigma() -> None:
    values = np.random.default_rng(0).integers(0, 999, (5, 9, 11)).astype(np.int32)
    region = np.random.default_rng(1).integers(0, 3, values.shape).astype(np.int32)
    expected = values.copy()
    for axis, sigma in enumerate((0.5, 0, 2.0)):
        one = [0.0, 0.0, 0.0]
        one[axis] = sigma
        expected = smooth_within(expected, region, one)
    assert np.array_equal(smooth_within(values.copy(), region, (0.5, 0, 2.0)), expected)
    assert np.array_equal(
        smooth_within(values.copy(), region, (1.7, 1.7, 1.7)), direct_sum(values, region, 1.7)
    )


@pytest.mark.parametrize("sigma", [0.2, 0.5, 1.0, 2.0, 3.3, 10.0, 18.3, 21.7, 50.0])
def test_weights_are_symmetric_and_sum_to_a_power_of_two(sigma: float) -> None:
    weights = gaussian_weights(sigma)
    assert weights.size == 2 * radius_px(sigma) + 1
    assert weights.sum() == 2**WEIGHT_BITS
    assert np.array_equal(weights, weights[::-1])
    assert np.all(np.diff(weights[: weights.size // 2]) >= 0)


def test_every_sigma_of_a_recipe_has_weights_near_the_gaussian() -> None:
    for sigma in np.arange(1, 501) / 10:
        weights = gaussian_weights(sigma)
        k = np.arange(weights.size) - weights.size // 2
        exact = np.exp(-0.5 * (k / sigma) ** 2)
        exact *= 2**WEIGHT_BITS / exact.sum()
        assert weights.sum() == 2**WEIGHT_BITS
        assert np.abs(weights - exact).max() <= max(1.0, 0.101 * exact.max())


def test_follows_the_gaussian_of_scipy() -> None:
    values = np.random.default_rng(0).integers(-100_000, 100_000, (60, 70)).astype(np.int32)
    exact = gaussian_filter(values.astype(np.float64), 2.0, mode="constant", truncate=3.0)
    smoothed = smooth_within(values.copy(), np.ones_like(values), 2.0)
    # The weights have 12 bits: half a unit of 2^-12 for each of 2 x 13 weights at most.
    assert np.abs(smoothed - exact).max() < 100_000 * 26 * 0.5 / 2**WEIGHT_BITS


def test_one_half_goes_up_for_either_sign() -> None:
    weights = gaussian_weights(0.5)
    assert weights.size == 5
    side = int(weights[1])
    for value in (-7, 7):
        values = np.array([[value, 0, 0, 0]], np.int32)
        row = smooth_within(values.copy(), np.ones_like(values), 0.5)[0]
        middle = (value * int(weights[2]) + 2048) // 4096
        # Axis 0 comes first, and there the row loses what lies above and below it.
        assert row[1] == (middle * side + 2048) // 4096
    halves = np.array([[-1, 1]], np.int32) * 3
    assert np.array_equal(smooth_within(halves.copy(), np.array([[1, 2]], np.int32), 0.1), halves)


def test_sigma_zero_returns_the_values_unchanged() -> None:
    values = np.arange(12, dtype=np.int32).reshape(3, 4)
    assert smooth_within(values, np.zeros_like(values), 0.0) is values
    assert values.tolist() == np.arange(12).reshape(3, 4).tolist()


def test_works_in_place() -> None:
    values = np.random.default_rng(3).integers(0, 99, (5, 6, 7)).astype(np.int32)
    exact = direct_sum(values, np.ones_like(values), 1.0)
    assert smooth_within(values, np.ones_like(values), 1.0) is values
    assert np.array_equal(values, exact)


def test_refuses_what_cannot_be_overwritten() -> None:
    values = np.ones((4, 5), np.int32)
    frozen = values.copy()
    frozen.flags.writeable = False
    for wrong in (values.T, frozen, values.astype(np.int64)):
        with pytest.raises(ValueError, match="writeable"):
            smooth_within(wrong, np.ones(wrong.shape, np.int32), 1.0)


def test_other_regions_and_the_window_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    values = rng.integers(0, 5000, (40, 50)).astype(np.int32)
    region = rng.integers(0, 4, (40, 50)).astype(np.int32)
    region[10:24, 8:30] = np.where(region[10:24, 8:30] == 1, 9, region[10:24, 8:30])
    region[region == 1] = 2
    own = region == 9
    whole = smooth_within(values.copy(), region, 2.0)
    alone = smooth_within(np.where(own, values, 77), np.where(own, 1, 0).astype(np.int32), 2.0)
    assert np.array_equal(whole[own], alone[own])
    crop = smooth_within(values[10:24, 8:30].copy(), region[10:24, 8:30], 2.0)
    assert np.array_equal(crop[own[10:24, 8:30]], whole[own])


def test_large_values_do_not_overflow() -> None:
    values = np.full((30, 30), 2**31 - 1, np.int32)
    assert smooth_within(values.copy(), np.ones_like(values), 1.0)[15, 15] == 2**31 - 1
    assert smooth_within(-values, np.ones_like(values), 1.0)[15, 15] == -(2**31 - 1)


@pytest.mark.parametrize("shape", [(5, 1), (1, 5), (1, 1, 5), (5, 1, 1), (0, 3)])
def test_thin_windows(shape: tuple[int, ...]) -> None:
    values = np.arange(np.prod(shape), dtype=np.int32).reshape(shape) * 100
    region = np.ones_like(values)
    exact = direct_sum(values, region, 1.0)
    assert np.array_equal(smooth_within(values, region, 1.0), exact)


@pytest.mark.parametrize("sigma", [-1.0, float("nan"), float("inf"), 5000.0])
def test_refuses_sigmas_without_a_kernel(sigma: float) -> None:
    values = np.ones((2, 2), np.int32)
    with pytest.raises(ValueError, match="sigma_px"):
        smooth_within(values.copy(), values, sigma)


def test_refuses_different_shapes() -> None:
    with pytest.raises(ValueError, match="shape"):
        smooth_within(np.ones((2, 2), np.int32), np.ones((2, 3), np.int32), 1.0)
