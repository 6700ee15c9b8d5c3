"""Quick shift against its definition, and against scikit-image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from skimage import io
from skimage.segmentation import quickshift

from pipeline.conformance import check_image
from pipeline.errors import MethodError, RecipeError
from pipeline.grid import TileGrid
from pipeline.kernels.quick_shift import _exponentials, densities, steps_by_distance
from pipeline.kernels.sampling import hashed
from pipeline.quick_shift import _rests
from pipeline.recipe import parse_recipe
from pipeline.trial import Cut, Result, run_untiled

TISSUE = Path(__file__).parent / "data" / "histology" / "4590d7d47f52.png"


def tissue(side: int) -> np.ndarray:
    """Red, green and blue, shape (3, Y, X)."""
    return np.ascontiguousarray(np.moveaxis(io.imread(TISSUE)[:side, :side, :3], -1, 0))


def regions(image: np.ndarray, folder: Path, **segment: object) -> np.ndarray:
    """Labels of a plane, or of channels in front of a plane, tiled as untiled."""
    content = {"segment": {"method": "quickshift", **segment}}
    if image.ndim == 3:
        content["source"] = {"channels": list(range(len(image)))}
        image = image[:, None]
    cuts = [Cut((9, 13), 1), Cut(31, 2, 3)]
    result = check_image(parse_recipe(content, "recipe"), image, cuts, folder)
    assert isinstance(result, Result)
    return result.labels[0, 0]


def numbered(labels: np.ndarray) -> np.ndarray:
    """The same partition, numbered from 1 by first pixels in raster order."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return (np.argsort(np.argsort(first)) + 1)[inverse].reshape(labels.shape)


def defined(
    colors: np.ndarray, kernel_size: float, max_dist: float, density: np.ndarray
) -> np.ndarray:
    """The pixel on which each one rests, as a raster index; -1 where there is no value."""
    height, width = colors.shape[1:]
    radius = int(np.ceil(3 * kernel_size))
    pixels = [p for p in np.ndindex(height, width) if not np.isnan(colors[(0, *p)])]
    rank = {p: (density[p], int(hashed(np.uint64(p[0] * width + p[1])))) for p in pixels}
    up = {}
    for p in pixels:
        ways = []
        for q in pixels:
            apart = np.abs(np.subtract(p, q))
            square = float(apart @ apart)
            for c in range(len(colors)):
                square += float(colors[(c, *p)] - colors[(c, *q)]) ** 2
            if rank[q] > rank[p] and apart.max() <= radius and square <= max_dist**2:
                ways.append((square, q))
        up[p] = min(ways)[1] if ways else p
    found = np.full((height, width), -1)
    for p in pixels:
        end = p
        while up[end] != end:
            end = up[end]
        found[p] = end[0] * width + end[1]
    return found


@pytest.mark.parametrize("max_dist", [0, 1, 2.3, 40])
@pytest.mark.parametrize("kernel_size", [0.4, 1.5])
@pytest.mark.parametrize("levels", [1, 3, 200])
def test_regions_are_as_defined(
    levels: int, kernel_size: float, max_dist: float, tmp_path: Path
) -> None:
    rng = np.random.default_rng(levels)
    image = rng.integers(0, levels, (19, 17)).astype(np.float32) / 7
    image[rng.random(image.shape) < 0.1] = np.nan
    colors = image[None].astype(float)
    density = densities(colors, kernel_size, int(np.ceil(3 * kernel_size)))
    expected = defined(colors, kernel_size, max_dist, density)
    found = regions(image, tmp_path, kernel_size=kernel_size, max_dist=max_dist)
    assert np.array_equal(found == 0, np.isnan(image))
    assert found.max() == len(np.unique(expected)) - 1
    assert np.array_equal(numbered(found), numbered(expected))


def test_densities_are_sums_of_gaussians() -> None:
    rng = np.random.default_rng(1)
    colors = rng.random((2, 15, 18)) * 3
    colors[:, 4, 5] = np.nan
    found = densities(colors, 1.3, 4)
    for y, x in np.ndindex(15, 18):
        box = (slice(max(0, y - 4), y + 5), slice(max(0, x - 4), x + 5))
        place = (np.indices((15, 18))[:, *box] - np.array([y, x])[:, None, None]) ** 2
        square = ((colors[:, *box] - colors[:, y, x][:, None, None]) ** 2).sum(0) + place.sum(0)
        expected = np.nansum(np.exp(-square / (2 * 1.3**2))) + np.isnan(colors[0, y, x])
        assert abs(found[y, x] - expected) < 1e-13 * expected


def test_the_exponential_is_right_to_the_last_digits() -> None:
    values = np.append(np.random.default_rng(0).random(10_000) * 1300, [0, 1399.9])
    found, rounded = values.copy(), np.empty_like(values)
    _exponentials(found, -0.5, rounded, rounded.view(np.int64))
    assert np.abs(found / np.exp(-0.5 * values) - 1).max() < 5e-16
    far, rounded = np.array([np.nan, np.inf, 1e300]), np.empty(3)
    _exponentials(far, -0.5, rounded, rounded.view(np.int64))
    assert (far < 1e-300).all()


@pytest.mark.parametrize(
    ("kernel_size", "max_dist", "ratio", "sigma_px"),
    [(3, 10, 1, 0), (5, 10, 0.5, 0), (2, 6, 1, 1), (1, 100, 0.1, 0), (2, 1.5, 2, 0)],
)
def test_regions_are_those_of_scikit_image(
    kernel_size: float, max_dist: float, ratio: float, sigma_px: float, tmp_path: Path
) -> None:
    image = tissue(90)
    own = {"kernel_size": kernel_size, "max_dist": max_dist, "sigma_px": sigma_px}
    found = regions(image, tmp_path, color_space="lab", ratio=ratio, **own)
    expected = quickshift(
        np.moveaxis(image, 0, -1),
        ratio=ratio,
        kernel_size=kernel_size,
        max_dist=max_dist,
        sigma=sigma_px,
        rng=0,
    )
    assert expected.max() > 10
    # Its noise of 1e-5, which parts equal densities, decides nothing here.
    assert np.array_equal(found, numbered(expected))


def test_steps_come_nearest_first() -> None:
    assert steps_by_distance(1, 1.2).tolist() == [[1, -1, 0], [1, 0, -1], [1, 0, 1], [1, 1, 0]]
    assert len(steps_by_distance(2, 9)) == 24
    assert steps_by_distance(3, 0).shape == (0, 3)


def test_ways_are_followed_to_their_ends() -> None:
    exits = np.array([2, 5, 7, 11, 20])
    after = np.array([5, 11, 3, 20, 90])
    assert _rests(exits, after).tolist() == [90, 90, 3, 90, 90]
    assert _rests(exits[:0], after[:0]).tolist() == []


def test_a_way_over_many_tiles_is_one_region(tmp_path: Path) -> None:
    # Density rises along the ramp, from the left to the right, by steps of 1 px.
    image = np.tile(np.arange(60.0) ** 0.5, (3, 1)).astype(np.float32)
    found = regions(image, tmp_path, kernel_size=1, max_dist=2, ratio=4)
    grid = TileGrid(1, image.shape, (3, 13))
    assert grid.counts == (1, 5)
    largest = np.bincount(found.ravel()).argmax()
    assert len(np.unique(np.nonzero(found == largest)[1] // 13)) >= 4


def test_what_does_not_apply_is_refused(tmp_path: Path) -> None:
    recipe = parse_recipe({"segment": {"method": "quickshift", "color_space": "lab"}}, "recipe")
    with pytest.raises(MethodError, match="takes red, green and blue, 1 channels"):
        run_untiled(recipe, np.zeros((10, 10), np.uint8), tmp_path)
    with pytest.raises(RecipeError, match="quickshift"):
        parse_recipe({"source": {"dims": "3d"}, "segment": {"method": "quickshift"}}, "recipe")


def test_what_is_planned() -> None:
    def halo(**segment: object) -> int:
        content = {"segment": {"method": "quickshift", **segment}}
        return parse_recipe(content, "recipe").segment.halo_px()

    assert halo(kernel_size=5, max_dist=10) == 25
    assert halo(kernel_size=2, max_dist=100) == 12
    assert halo(kernel_size=2, max_dist=1.9, sigma_px=1) == 11
