"""Counting against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.kernels.histogram import count_bins, count_whole_numbers


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_whole_numbers_are_counted_each(dtype: str) -> None:
    limits = np.iinfo(dtype)
    values = np.random.default_rng(0).integers(limits.min, limits.max, (40, 50), dtype, True)
    values[0, :2] = limits.min, limits.max
    counts = count_whole_numbers(values, limits.min, limits.max)
    expected = np.bincount(
        values.ravel().astype(int) - limits.min, minlength=limits.max - limits.min + 1
    )
    assert np.array_equal(counts, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint32"])
def test_bins_are_those_of_numpy(dtype: str) -> None:
    # Powers of two, so that every value lies clearly inside a bin or exactly on its lower edge.
    values = np.random.default_rng(1).integers(0, 4097, 5000).astype(dtype)
    counts = count_bins(values, 0.0, 4096.0, 512)
    expected, _ = np.histogram(values.astype(float), 512, (0, 4096))
    assert np.array_equal(counts, expected)
    assert counts.sum() == values.size


def test_any_values_are_at_most_one_bin_off() -> None:
    values = np.random.default_rng(2).normal(size=20_000)
    low, high = float(values.min()), float(values.max())
    counts = count_bins(values, low, high, 1000)
    expected, _ = np.histogram(values, 1000, (low, high))
    assert counts.sum() == len(values)
    assert np.abs(np.cumsum(counts) - np.cumsum(expected)).max() <= 1


def test_values_outside_are_counted_at_the_ends() -> None:
    values = np.array([-5.0, 0.0, 0.49, 0.5, 1.0, 7.0])
    assert count_bins(values, 0.0, 1.0, 2).tolist() == [3, 3]


def test_equal_values_share_the_first_bin() -> None:
    assert count_bins(np.full(9, 2.5, np.float32), 2.5, 2.5, 4).tolist() == [9, 0, 0, 0]


def test_parts_add_up_to_the_whole() -> None:
    values = np.random.default_rng(3).random((64, 64), np.float32)
    parts = [count_bins(values[k : k + 9], 0.0, 1.0, 77) for k in range(0, 64, 9)]
    assert np.array_equal(sum(parts), count_bins(values, 0.0, 1.0, 77))


def test_strided_and_empty_arrays() -> None:
    values = np.arange(100, dtype=np.uint8).reshape(10, 10)
    assert count_whole_numbers(values[::3, ::4].T, 0, 255).sum() == 12
    assert not count_whole_numbers(values[:0], 0, 255).any()
    assert not count_bins(np.empty(0), 0.0, 1.0, 3).any()
