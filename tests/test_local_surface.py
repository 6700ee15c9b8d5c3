"""Local thresholds are those of scikit-image, and the same bits in every window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage import filters

from pipeline.kernels.window_sums import window_sums
from pipeline.local_surface import reach_px, surface


def picture(dtype: str, shape: tuple[int, ...] = (60, 71)) -> np.ndarray:
    rough = ndimage.gaussian_filter(np.random.default_rng(1).random(shape), 2)
    rough = (rough - rough.min()) / np.ptp(rough)
    return (rough * (250 if dtype != "float32" else 1)).astype(dtype)


def of_scikit_image(image: np.ndarray, rule: str, block: int) -> np.ndarray:
    if rule == "niblack":
        return filters.threshold_niblack(image, block, 0.2)
    if rule == "sauvola":
        return filters.threshold_sauvola(image, block, 0.2, 127.5)
    return filters.threshold_local(image, block, rule)


@pytest.mark.parametrize("rule", ["gaussian", "median", "niblack", "sauvola"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("block", [3, 15, 35])
def test_whole_numbers_give_the_surface_of_scikit_image(rule: str, dtype: str, block: int) -> None:
    image = picture(dtype)
    found = surface(image, rule, block, 0.2, 127.5)  # type: ignore[arg-type]
    assert np.array_equal(found, of_scikit_image(image, rule, block))


@pytest.mark.parametrize("rule", ["gaussian", "mean", "median", "niblack", "sauvola"])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "int32"])
def test_others_come_close(rule: str, dtype: str) -> None:
    # scikit-image adds up running sums of floats; ours are exact, or added one by one.
    image = picture(dtype)
    found = surface(image, rule, 15, 0.2, 127.5)  # type: ignore[arg-type]
    scale = float(image.max())
    assert np.abs(found - of_scikit_image(image, rule, 15)).max() < 3e-4 * scale


@pytest.mark.parametrize("rule", ["gaussian", "mean", "median", "niblack", "sauvola"])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "int32"])
@pytest.mark.parametrize("shape", [(60, 71), (9, 24, 22)])
def test_a_window_gives_the_same_bits(rule: str, dtype: str, shape: tuple[int, ...]) -> None:
    image = picture(dtype, shape)
    block = 7
    whole = surface(image, rule, block, 0.2, 127.5)  # type: ignore[arg-type]
    reach = reach_px(rule, block)  # type: ignore[arg-type]
    starts = tuple(n // 3 for n in shape)
    core = tuple(slice(a, a + 3) for a in starts)
    low = [max(0, a - reach) for a in starts]
    window = tuple(
        slice(b, min(n, a + 3 + reach)) for a, b, n in zip(starts, low, shape, strict=True)
    )
    inner = tuple(slice(a - b, a - b + 3) for a, b in zip(starts, low, strict=True))
    crop = surface(np.ascontiguousarray(image[window]), rule, block, 0.2, 127.5)  # type: ignore[arg-type]
    assert np.array_equal(crop[inner], whole[core])


@given(st.integers(1, 3), st.integers(1, 6), st.integers(0, 2**32))
@settings(deadline=None)
def test_window_sums(ndim: int, side: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(-9, 9, tuple(rng.integers(1, 9, ndim)))
    found = window_sums(values, side)
    assert found.shape == tuple(max(0, n - side + 1) for n in values.shape)
    for place in np.ndindex(found.shape):
        box = tuple(slice(i, i + side) for i in place)
        assert found[place] == values[box].sum()
