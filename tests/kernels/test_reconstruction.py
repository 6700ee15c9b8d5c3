"""Reconstruction against scikit-image, region by region."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import reconstruction

from pipeline.kernels.components import AXES_APART
from pipeline.kernels.reconstruction import reconstruct


@pytest.mark.parametrize(
    ("shape", "connectivity"),
    [((23, 31), 4), ((40, 17), 8), ((6, 9, 11), 6), ((7, 8, 9), 18), ((5, 12, 8), 26), ((1, 1), 8)],
)
@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_it_equals_scikit_image_in_one_region(
    shape: tuple[int, ...], connectivity: int, dtype: type
) -> None:
    generator = np.random.default_rng(1)
    height = (generator.random(shape) * 40 - 20).astype(dtype)
    start = height - (generator.random(shape) * 30).astype(dtype)
    structure = ndimage.generate_binary_structure(len(shape), AXES_APART[len(shape)][connectivity])
    expected = reconstruction(start, height, "dilation", footprint=structure)
    found = reconstruct(start.copy(), height, np.ones(shape, np.int32), connectivity)
    assert np.array_equal(found, expected)
    assert (found > start).any() or found.size == 1


def test_regions_do_not_see_each_other() -> None:
    generator = np.random.default_rng(2)
    height = generator.integers(0, 50, (30, 30)).astype(np.int32)
    start = height - 20
    region = np.repeat(np.arange(30, dtype=np.int32)[None] // 10, 30, axis=0)
    found = reconstruct(start.copy(), height, region, 8)
    assert np.array_equal(found[:, :10], start[:, :10])  # region 0 is none
    for columns in (slice(10, 20), slice(20, 30)):
        expected = reconstruction(
            start[:, columns], height[:, columns], "dilation", footprint=np.ones((3, 3))
        )
        assert np.array_equal(found[:, columns], expected)


def test_a_spiral_is_climbed_to_its_end() -> None:
    height = np.zeros((41, 41), np.int32)
    place, step, corridor = (1, 1), (0, 1), []
    for length in range(38, 0, -2):
        for _ in range(2):
            for _ in range(length):
                height[place] = 9
                corridor.append(place)
                place = (place[0] + step[0], place[1] + step[1])
            step = (step[1], -step[0])
    start = np.zeros_like(height)
    start[corridor[-1]] = 9
    found = reconstruct(start, height, np.ones_like(height), 4)
    assert np.array_equal(found, height)


def test_what_does_not_fit_is_refused() -> None:
    good = np.zeros((4, 5), np.int32)
    with pytest.raises(ValueError, match="start"):
        reconstruct(good, good[:3], good, 4)
    with pytest.raises(ValueError, match="int32 or float32"):
        reconstruct(good.astype(np.int64), good.astype(np.int64), good, 4)
    with pytest.raises(ValueError, match="C-contiguous"):
        reconstruct(good.T.copy().T, good, good, 4)
    with pytest.raises(ValueError, match="connectivity"):
        reconstruct(good, good, good, 6)
