"""Components against scipy, of masks on which cc3d has been wrong."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from pipeline.kernels.components import (
    AXES_APART,
    components,
    face_connectivity,
    full_connectivity,
)

CONNECTIVITIES = [(n, c) for n in (2, 3) for c in AXES_APART[n]]


def same_partition(found: np.ndarray, count: int, expected: np.ndarray, number: int) -> bool:
    """Whether labels name the same sets of pixels, and are 0..count."""
    pairs = np.unique(found.astype(np.int64).ravel() * (number + 1) + expected.ravel())
    return (
        count == number
        and np.array_equal(found > 0, expected > 0)
        and len(pairs) == len(np.unique(found)) == len(np.unique(expected))
        and int(found.max(initial=0)) == count
    )


@pytest.mark.parametrize(("ndim", "connectivity"), CONNECTIVITIES)
@pytest.mark.parametrize("dtype", ["bool", "uint8"])
def test_random_masks_equal_scipy(ndim: int, connectivity: int, dtype: str) -> None:
    generator = np.random.default_rng(connectivity)
    structure = ndimage.generate_binary_structure(ndim, AXES_APART[ndim][connectivity])
    for _ in range(1000):
        shape = tuple(generator.integers(1, 24 if ndim == 2 else 11, ndim))
        mask = generator.random(shape) < generator.choice([0.15, 0.4, 0.6, 0.9])
        found, count = components(mask.astype(dtype), connectivity)
        assert found.dtype == np.uint32
        assert found.flags.c_contiguous
        assert same_partition(found, count, *ndimage.label(mask, structure))


@pytest.mark.parametrize(("ndim", "connectivity"), CONNECTIVITIES)
def test_different_values_are_never_joined(ndim: int, connectivity: int) -> None:
    generator = np.random.default_rng(7)
    structure = ndimage.generate_binary_structure(ndim, AXES_APART[ndim][connectivity])
    for _ in range(50):
        values = generator.integers(0, 4, generator.integers(1, 12, ndim)).astype(np.int32)
        expected = np.zeros(values.shape, np.int64)
        number = 0
        for value in (1, 2, 3):
            labels, count = ndimage.label(values == value, structure)
            expected[labels > 0] = labels[labels > 0] + number
            number += count
        assert same_partition(*components(values, connectivity), expected, number)


@pytest.mark.parametrize("connectivity", [4, 8])
def test_views_of_any_layout(connectivity: int) -> None:
    large = np.random.default_rng(0).random((60, 64)) < 0.5
    structure = ndimage.generate_binary_structure(2, AXES_APART[2][connectivity])
    for view in (large.T, large[::2, 1::3], large[::-1], np.asfortranarray(large)):
        assert same_partition(*components(view, connectivity), *ndimage.label(view, structure))
    assert large.sum() == (np.random.default_rng(0).random((60, 64)) < 0.5).sum()


def test_empty_and_full_masks() -> None:
    found, count = components(np.zeros((5, 6), bool), 8)
    assert (count, int(found.max())) == (0, 0)
    found, count = components(np.ones((3, 5, 6), bool), 6)
    assert (count, int(found.min())) == (1, 1)


def test_names_of_connectivities() -> None:
    assert [full_connectivity(n) for n in (2, 3)] == [8, 26]
    assert [face_connectivity(n) for n in (2, 3)] == [4, 6]
