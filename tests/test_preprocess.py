"""Filters equal scipy and skimage, and no pixel outside the halo changes a result."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import opening

from pipeline.box import Box, grid
from pipeline.filter import Place, PlainFilter
from pipeline.preprocess import (
    Gaussian,
    Median,
    SubtractBackground,
    apply_all,
    final_dtype,
    final_range,
    natural_range,
    total_halo_px,
)

FILTERS: list[PlainFilter] = [
    Gaussian(filter="gaussian", sigma_px=0.1),
    Gaussian(filter="gaussian", sigma_px=0.7),
    Gaussian(filter="gaussian", sigma_px=1.9),
    Median(filter="median", radius_px=1),
    Median(filter="median", radius_px=2),
    SubtractBackground(filter="subtract_background", radius_px=1),
    SubtractBackground(filter="subtract_background", radius_px=3),
]
DTYPES = ["uint8", "int8", "uint16", "int16", "int32", "uint32", "float32", "float64"]


def drawn(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    """Pixels over the whole range of the dtype."""
    generator = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return (generator.normal(size=shape) * 1000).astype(dtype)
    limits = np.iinfo(dtype)
    return generator.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def name(step: PlainFilter) -> str:
    return "-".join(str(value) for value in step.model_dump().values())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("step", FILTERS, ids=name)
@pytest.mark.parametrize("shape", [(31, 37), (9, 14, 17)])
def test_windows_with_the_halo_give_the_same_bits(
    step: PlainFilter, dtype: str, shape: tuple[int, ...]
) -> None:
    image = drawn(shape, dtype)
    whole = step.apply(image)
    assert whole.dtype == step.dtype(image.dtype)
    frame = Box.whole(shape)
    for _, core in grid(shape, (7,) * len(shape)):
        window = core.grow(step.halo_px(), frame)
        found = step.apply(image[window.slices])[core.within(window)]
        assert found.tobytes() == np.ascontiguousarray(whole[core.slices]).tobytes()


@pytest.mark.parametrize("step", FILTERS, ids=name)
def test_the_halo_is_no_larger_than_needed(step: PlainFilter) -> None:
    halo = step.halo_px()
    if halo == 0:
        assert np.array_equal(step.apply(image := drawn((9, 9), "float32")), image)
        return
    centre = 2 * halo + 3
    near = {Gaussian: 1000.0, Median: 1.0, SubtractBackground: 0.0}[type(step)]
    image = np.zeros((2 * centre + 1, 2 * centre + 1), np.float32)
    if isinstance(step, Median):
        # Half of the window and one corner more: the corner decides.
        image[centre - halo : centre, centre - halo : centre + halo + 1] = 1
        image[centre, centre - halo : centre] = 1
        change = [centre + halo, centre + halo]
    elif isinstance(step, SubtractBackground):
        # The one square that makes the opening bright here ends at the halo's corner.
        image[centre : centre + halo + 1, centre : centre + halo + 1] = 1
        change = [centre, centre + halo]
    else:
        change = [centre, centre + halo]
    before = step.apply(image)[centre, centre]
    image[tuple(change)] = near
    assert step.apply(image)[centre, centre] != before


def test_gaussian_equals_scipy() -> None:
    image = drawn((40, 43), "uint16")
    found = Gaussian(filter="gaussian", sigma_px=1.3).apply(image)
    exact = ndimage.gaussian_filter(image.astype(np.float64), 1.3, mode="nearest")
    assert found.dtype == np.float32
    assert np.abs(found - exact).max() < 65535 * 1e-6


@pytest.mark.parametrize("shape", [(25, 30), (7, 9, 11)])
def test_median_equals_numpy(shape: tuple[int, ...]) -> None:
    image = drawn(shape, "uint8")
    found = Median(filter="median", radius_px=2).apply(image)
    padded = np.pad(image, 2, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5,) * len(shape))
    expected = np.median(windows.reshape(*shape, -1), axis=-1)
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("shape", [(30, 33), (9, 12, 13)])
def test_background_equals_the_opening_of_skimage(shape: tuple[int, ...]) -> None:
    image = drawn(shape, "uint8")
    side = 2 * 2 + 1
    inner = (slice(4, -4),) * len(shape)
    expected = image - opening(image, np.ones((side,) * len(shape)))
    found = SubtractBackground(filter="subtract_background", radius_px=2).apply(image)
    assert np.array_equal(found[inner], expected[inner])


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_background_of_any_dtype_leaves_what_is_narrow(dtype: str) -> None:
    low, high = (
        (-2000, 3000)
        if np.dtype(dtype).kind == "f"
        else (
            np.iinfo(dtype).min,
            np.iinfo(dtype).max,
        )
    )
    image = np.full((12, 14), low, dtype)
    image[5:7, 6:8] = high
    found = SubtractBackground(filter="subtract_background", radius_px=1).apply(image)
    assert found.dtype.kind in "uf"
    # The whole span of a signed type needs its unsigned counterpart.
    assert found.max() == float(high) - float(low)
    assert int((found > 0).sum()) == 4


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_stay_within_the_stated_range(dtype: str) -> None:
    image = drawn((20, 21), dtype)
    bounds = float(image.min()), float(image.max())
    for steps in itertools.product(FILTERS, repeat=2):
        place = Place(Box.whole(image.shape), Box.whole(image.shape))
        found = apply_all(steps, image, place)
        low, high = final_range(steps, *bounds, place)
        slack = 1e-6 * max(abs(bounds[0]), abs(bounds[1]))
        assert found.dtype == final_dtype(steps, dtype)
        assert found.min() >= low - slack
        assert found.max() <= high + slack
        assert total_halo_px(steps) == sum(step.halo_px() for step in steps)


def test_natural_ranges() -> None:
    assert natural_range("uint8") == (0, 255)
    assert natural_range("int16") == (-32768, 32767)
    for dtype in ("int32", "uint32", "float32", "float64"):
        assert natural_range(dtype) is None
