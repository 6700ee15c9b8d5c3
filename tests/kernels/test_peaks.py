"""Peaks against a direct search in Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.kernels import peaks as module
from pipeline.kernels.peaks import candidate_peaks, find_peaks, space_peaks

SHAPES = st.one_of(
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14),
    hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7),
)


def all_candidates(height: np.ndarray, region: np.ndarray, distance: int) -> list[int]:
    reach = max(1, distance)
    found = []
    for i, p in enumerate(np.ndindex(height.shape)):
        box = tuple(slice(max(0, c - reach), c + reach + 1) for c in p)
        if region[p] > 0 and height[p] == height[box][region[box] == region[p]].max():
            found.append(i)
    return found


def all_kept(
    coords: np.ndarray, height: np.ndarray, region: np.ndarray, key: np.ndarray, distance: int
) -> np.ndarray:
    keep = np.zeros(len(coords), np.bool_)
    for i in sorted(range(len(coords)), key=lambda i: (-height[i], key[i])):
        near = np.abs(coords - coords[i]).max(axis=1) <= distance
        keep[i] = not np.any(keep & near & (region == region[i]))
    return keep


@given(data=st.data(), shape=SHAPES, distance=st.integers(0, 5))
@settings(max_examples=300, deadline=None)
def test_equals_the_direct_search(
    data: st.DataObject, shape: tuple[int, ...], distance: int
) -> None:
    top, regions = data.draw(st.tuples(st.integers(0, 6), st.integers(1, 3)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    height = rng.integers(-top, top + 1, shape).astype(np.int32)
    region = rng.integers(0, regions + 1, shape).astype(np.int32)
    expected = all_candidates(height, region, distance)
    for values in (height, height.astype(np.float32)):
        found = candidate_peaks(values, region, distance)
        assert found.dtype == np.int64
        assert found.tolist() == expected
        coords = np.argwhere(np.ones(shape))[expected]
        keep = all_kept(
            coords, height.ravel()[expected], region.ravel()[expected], np.array(expected), distance
        )
        assert np.array_equal(find_peaks(values, region, distance), np.array(expected)[keep])


@given(
    seed=st.integers(0, 2**32),
    shape=SHAPES,
    distance=st.tuples(*(st.integers(0, 4) for _ in range(3))),
)
@settings(max_examples=200, deadline=None)
def test_equals_the_direct_search_with_a_distance_an_axis(
    seed: int, shape: tuple[int, ...], distance: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(seed)
    height = rng.integers(0, 5, shape).astype(np.int32)
    region = rng.integers(0, 3, shape).astype(np.int32)
    distance = distance[-len(shape) :]
    expected = []
    for i, p in enumerate(np.ndindex(shape)):
        box = tuple(
            slice(max(0, c - max(1, d)), c + max(1, d) + 1)
            for c, d in zip(p, distance, strict=True)
        )
        if region[p] > 0 and height[p] == height[box][region[box] == region[p]].max():
            expected.append(i)
    assert candidate_peaks(height, region, distance).tolist() == expected
    coords = np.argwhere(np.ones(shape))
    kept: list[int] = []
    for i in sorted(expected, key=lambda i: (-height.ravel()[i], i)):
        apart = [
            np.any(np.abs(coords[i] - coords[j]) > distance)
            for j in kept
            if region.ravel()[i] == region.ravel()[j]
        ]
        if all(apart):
            kept.append(i)
    assert find_peaks(height, region, distance).tolist() == sorted(kept)


@pytest.mark.parametrize("distance", [2, 5, 9])
@pytest.mark.parametrize("levels", [1, 3, 10_000])
def test_equals_the_direct_search_on_objects(distance: int, levels: int) -> None:
    rng = np.random.default_rng(distance)
    coarse = rng.integers(0, 4, (4, 5))
    region = np.kron(coarse, np.ones((9, 11), np.int64)).astype(np.int32)
    height = rng.integers(0, levels, region.shape).astype(np.int32)
    assert candidate_peaks(height, region, distance).tolist() == all_candidates(
        height, region, distance
    )


@given(data=st.data(), ndim=st.sampled_from([2, 3]), distance=st.integers(0, 6))
@settings(max_examples=150, deadline=None)
def test_spacing_equals_all_pairs(data: st.DataObject, ndim: int, distance: int) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    n = data.draw(st.sampled_from([0, 1, 5, module.FEW, module.FEW + 1, 150]))
    coords = rng.integers(-20, 20, (n, ndim))
    height = rng.integers(-2, 3, n).astype(np.int32)
    region = rng.integers(1, data.draw(st.sampled_from([2, 3, 40])), n)
    key = rng.permutation(n).astype(np.int64) + 2**40
    for values in (height, height.astype(np.float32), height.astype(np.float64)):
        keep = space_peaks(coords, values, region, key, distance)
        assert np.array_equal(keep, all_kept(coords, height, region, key, distance))


def test_spacing_of_a_gathered_list_equals_the_window() -> None:
    rng = np.random.default_rng(0)
    height = rng.integers(0, 3, (40, 60)).astype(np.int32)
    region = np.ones_like(height)
    expected = find_peaks(height, region, 3)
    parts = []
    for left, right in [(30, 60), (0, 30)]:  # tiles in any order, each with a halo of 3 px
        lo, hi = max(0, left - 3), min(60, right + 3)
        found = candidate_peaks(height[:, lo:hi], region[:, lo:hi], 3)
        y, x = np.divmod(found, hi - lo)
        own = (x + lo >= left) & (x + lo < right)
        parts.append(np.stack([y[own], x[own] + lo], axis=1))
    coords = np.concatenate(parts)
    key = coords[:, 0] * 60 + coords[:, 1]
    values = height.ravel()[key]
    keep = space_peaks(coords, values, np.ones(len(key), np.int64), key, 3)
    assert sorted(key[keep].tolist()) == expected.tolist()


def test_every_region_has_a_peak_and_a_flat_one_starts_at_its_first_pixel() -> None:
    region = np.array([[0, 5, 5, 0], [7, 5, 5, 2**31 - 1]], np.int32)
    flat = np.full(region.shape, -4, np.int32)
    assert find_peaks(flat, region, 6).tolist() == [1, 4, 7]


def test_equal_in_every_crop_that_holds_the_region() -> None:
    rng = np.random.default_rng(4)
    region = rng.integers(0, 3, (40, 44)).astype(np.int32)
    region[9:25, 13:33] = np.where(rng.random((16, 20)) < 0.7, 8, 1)
    height = rng.integers(0, 4, region.shape).astype(np.int32)
    whole = find_peaks(height, region, 4)
    whole = whole[region.ravel()[whole] == 8]
    for top, left in [(9, 13), (2, 7), (0, 13)]:
        box = (slice(top, 26), slice(left, 34))
        found = find_peaks(height[box], region[box], 4)
        y, x = np.divmod(found, 34 - left)
        absolute = (y + top) * 44 + x + left
        assert np.array_equal(absolute[region.ravel()[absolute] == 8], whole)


def test_extreme_heights() -> None:
    lowest = np.iinfo(np.int32).min
    flat = np.full((9, 9), lowest, np.int32)
    assert find_peaks(flat, np.ones_like(flat), 3).tolist() == [0, 4, 8, 36, 40, 44, 72, 76, 80]
    endless = np.full((9, 9), -np.inf, np.float32)
    assert find_peaks(endless, np.ones_like(flat), 20).tolist() == [0]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("distance", [1, 20])
def test_a_large_plateau_takes_linear_time(distance: int) -> None:
    side = 1500
    plateau = np.zeros((side, side), np.int32)
    found = find_peaks(plateau, np.ones_like(plateau), distance)
    assert found.size == (-(-side // (distance + 1))) ** 2


def test_empty_windows_and_windows_without_regions() -> None:
    for shape in [(0, 3), (3, 0), (4, 4), (2, 3, 4)]:
        window = np.zeros(shape, np.int32)
        assert find_peaks(window, window, 2).size == 0


def test_strided_and_read_only_windows_are_accepted() -> None:
    height = np.random.default_rng(1).integers(0, 50, (20, 30)).astype(np.int32)
    ones = np.ones_like(height)
    expected = find_peaks(np.ascontiguousarray(height.T), ones.T, 2)
    height.flags.writeable = False
    assert np.array_equal(find_peaks(height.T, ones.T, 2), expected)


def test_refuses_what_does_not_fit() -> None:
    ones = np.ones((2, 2), np.int32)
    with pytest.raises(ValueError, match="shape"):
        find_peaks(ones, np.ones((2, 3), np.int32), 1)
    with pytest.raises(ValueError, match="min_distance_px"):
        find_peaks(ones, ones, -1)
    with pytest.raises(ValueError, match="NaN"):
        find_peaks(np.full((2, 2), np.nan, np.float32), ones, 1)
    with pytest.raises(ValueError, match="length"):
        space_peaks(np.zeros((2, 2), np.int64), np.zeros(3), np.zeros(2, int), np.zeros(2, int), 1)
    with pytest.raises(ValueError, match="coords"):
        space_peaks(np.zeros((2, 4), np.int64), np.zeros(2), np.zeros(2, int), np.zeros(2, int), 1)
