"""Sums over labels against numpy, and sums of parts against sums of the whole."""

from __future__ import annotations

import itertools
from dataclasses import fields

import numpy as np
import pytest

from pipeline.kernels.measure import (
    SECOND_PAIRS,
    STEPS,
    Geometry,
    Quantum,
    from_ordered,
    geometry,
    intensity,
    ordered,
)


def labelled(shape: tuple[int, ...], count: int, seed: int = 0) -> np.ndarray:
    """Labels in runs of some pixels, all of 0..count."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, count + 1, shape).astype(np.uint32)
    labels = np.repeat(labels, 3, axis=-1)[..., : shape[-1]]
    labels.reshape(-1)[: count + 1] = np.arange(count + 1)
    return labels


@pytest.mark.parametrize("shape", [(14, 23), (5, 7, 11), (1, 60), (60, 1)])
def test_geometry_equals_sums_over_coordinates(shape: tuple[int, ...]) -> None:
    labels = labelled(shape, 6)
    found = geometry(labels, 6)
    three = labels.reshape((1,) * (3 - labels.ndim) + shape)
    for label in range(1, 7):
        places = np.argwhere(three == label)
        i = label - 1
        assert found.area[i] == len(places)
        assert found.first[i] == np.flatnonzero(labels.ravel() == label)[0]
        assert found.start[i].tolist() == places.min(axis=0).tolist()
        assert found.stop[i].tolist() == (places.max(axis=0) + 1).tolist()
        assert found.sums[i].tolist() == places.sum(axis=0).tolist()
        for k, (a, b) in enumerate(SECOND_PAIRS):
            assert found.seconds[i, k] == (places[:, a] * places[:, b]).sum()


def test_labels_that_do_not_occur_have_no_pixels() -> None:
    found = geometry(np.zeros((3, 4), np.uint32), 2)
    assert all(not getattr(found, field.name).any() for field in fields(Geometry))
    assert geometry(np.zeros((3, 4), np.uint32), 0).area.shape == (0,)


def test_coordinates_of_long_rows_do_not_overflow() -> None:
    n = 1_600_000
    found = geometry(np.ones((1, n), np.uint32), 1)
    assert int(found.sums[0, 2]) == n * (n - 1) // 2
    assert int(found.seconds[0, 5]) == (n - 1) * n * (2 * n - 1) // 6


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_whole_numbers_are_summed_exactly(dtype: str) -> None:
    limits = np.iinfo(dtype)
    labels = labelled((13, 17), 5)
    values = np.random.default_rng(1).integers(limits.min, limits.max, labels.shape, dtype, True)
    quantum = Quantum.of(np.dtype(dtype), limits.min, limits.max)
    assert (quantum.offset, quantum.step) == (limits.min, 1.0)
    found = intensity(labels, values, geometry(labels, 5).area, quantum)
    for label in range(1, 6):
        inside = [int(v) - limits.min for v in values[labels == label]]
        i = label - 1
        assert found.count[i] == len(inside)
        assert (found.low[i], found.high[i]) == (min(inside), max(inside))
        assert found.total[i] == sum(inside)
        square = int(found.square_high[i]) * 2**32 + int(found.square_low[i])
        assert square == sum(v * v for v in inside)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint32"])
def test_wide_values_are_summed_in_steps_and_their_parts(dtype: str) -> None:
    labels = labelled((13, 17), 5)
    generator = np.random.default_rng(2)
    if np.dtype(dtype).kind == "f":
        values = (generator.normal(size=labels.shape) * 1e4).astype(dtype)
    else:
        limits = np.iinfo(dtype)
        values = generator.integers(limits.min, limits.max, labels.shape, dtype, True)
    low, high = float(values.min()), float(values.max())
    quantum = Quantum.of(np.dtype(dtype), low, high)
    found = intensity(labels, values, geometry(labels, 5).area, quantum)
    scaled = values.astype(float) / quantum.step
    steps = (np.rint(scaled) - quantum.offset / quantum.step).astype(np.int64)
    parts = np.rint((scaled - np.rint(scaled)) * 2**31).astype(np.int64)
    assert STEPS / 2 - 1 <= steps.max() <= STEPS
    assert 0 <= steps.min() <= 1
    for label in range(1, 6):
        inside = [
            (int(q), int(p))
            for q, p in zip(steps[labels == label], parts[labels == label], strict=True)
        ]
        i = label - 1
        own = values[labels == label]
        extremes = from_ordered(np.array([found.low[i], found.high[i]]))
        assert extremes.tolist() == [own.min(), own.max()]
        assert found.total[i] == sum(q for q, _ in inside)
        assert found.part[i] == sum(p for _, p in inside)
        for name, products in (
            ("square", [q * q for q, _ in inside]),
            ("cross", [q * p for q, p in inside]),
            ("small", [p * p for _, p in inside]),
        ):
            upper, lower = (int(getattr(found, f"{name}_{half}")[i]) for half in ("high", "low"))
            assert upper * 2**32 + lower == sum(products)


def test_what_is_not_finite_is_left_out() -> None:
    labels = np.array([[1, 1, 1, 2, 2]], np.uint32)
    values = np.array([[0.0, np.nan, 1.0, np.inf, -np.inf]])
    quantum = Quantum.of(values.dtype, 0.0, 1.0)
    found = intensity(labels, values, np.array([3, 2]), quantum)
    assert found.count.tolist() == [2, 0]
    assert found.total.tolist() == [1 / quantum.step, 0]
    assert from_ordered(found.low)[0] == 0
    assert from_ordered(found.high)[0] == 1


@pytest.mark.parametrize(
    ("dtype", "low", "high", "step"),
    [
        ("uint16", 3, 9, 1.0),
        ("int32", -7, 1000, 1.0),
        ("int64", 10**12, 10**12 + 2**31 - 1, 1.0),
        ("uint32", 0, 2**32 - 1, 4.0),
        ("float32", 0.0, 60_000.0, 2.0**-15),
        ("float64", -1.7e308, 1.7e308, 2.0**994),
        ("float64", 0.0, 5e-324, 2.0**-1000),
    ],
)
def test_steps_are_powers_of_two_that_reach_over_the_range(
    dtype: str, low: float, high: float, step: float
) -> None:
    quantum = Quantum.of(np.dtype(dtype), low, high)
    assert quantum.step == step
    assert quantum.offset <= low
    assert (high / step - quantum.offset / step) <= STEPS


def test_whole_numbers_in_floats_stay_whole() -> None:
    quantum = Quantum.of(np.dtype("float32"), 3.0, 4095.0)
    assert (3 - quantum.offset) / quantum.step % 1 == 0
    assert 1 / quantum.step % 1 == 0


def test_ordered_numbers_are_in_the_order_of_their_values() -> None:
    values = np.array([-np.inf, -1.7e308, -2.5, -5e-324, -0.0, 0.0, 5e-324, 1.0, 1e9, np.inf])
    numbers = ordered(values)
    assert (np.diff(numbers) >= 0).all()
    assert numbers[4] == numbers[5]
    np.testing.assert_array_equal(from_ordered(numbers), values)


def test_a_constant_image_has_one_step() -> None:
    quantum = Quantum.of(np.dtype("float32"), 3.5, 3.5)
    assert (quantum.offset, quantum.step) == (3.5, 1.0)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_sums_of_parts_add_up_to_those_of_the_whole(dtype: str) -> None:
    labels = labelled((24, 30), 7)
    values = (np.random.default_rng(3).random(labels.shape) * 60_000).astype(dtype)
    quantum = Quantum.of(np.dtype(dtype), 0.0, 60_000.0)
    area = geometry(labels, 7).area
    whole = intensity(labels, values, area, quantum)
    parts = []
    for y, x in itertools.product(range(0, 24, 7), range(0, 30, 11)):
        cut = np.s_[y : y + 7, x : x + 11]
        part = np.ascontiguousarray(labels[cut])
        parts.append(
            intensity(part, np.ascontiguousarray(values[cut]), geometry(part, 7).area, quantum)
        )
    assert np.array_equal(sum(p.count for p in parts), whole.count)
    assert np.array_equal(sum(p.total for p in parts), whole.total)
    assert np.array_equal(sum(p.part for p in parts), whole.part)
    for name in ("square", "cross", "small"):
        products = [
            getattr(p, f"{name}_high") * 2**32 + getattr(p, f"{name}_low") for p in [whole, *parts]
        ]
        assert np.array_equal(sum(products[1:]), products[0])
    assert np.array_equal(np.min([p.low for p in parts], axis=0), whole.low)
    assert np.array_equal(np.max([p.high for p in parts], axis=0), whole.high)
