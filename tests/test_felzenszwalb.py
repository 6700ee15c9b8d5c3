"""Felzenszwalb against its definition, and against scikit-image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from skimage import io
from skimage.segmentation import felzenszwalb

from pipeline.conformance import check_image
from pipeline.errors import MethodError
from pipeline.kernels.contraction import contract
from pipeline.kernels.neighbours import neighbour_steps
from pipeline.recipe import parse_recipe
from pipeline.trial import Cut, Result, run_untiled

DATA = Path(__file__).parent / "data"
TISSUE = DATA / "histology" / "4590d7d47f52.png"
NUCLEI = DATA / "demo" / "large_nuclei" / "3ca8181367fc.png"


def tissue(side: int = 200) -> np.ndarray:
    """Red, green and blue, shape (3, Y, X)."""
    return np.ascontiguousarray(np.moveaxis(io.imread(TISSUE)[:side, :side, :3], -1, 0))


def nuclei() -> np.ndarray:
    image = io.imread(NUCLEI)
    return image[..., 0] if image.ndim == 3 else image


def regions(image: np.ndarray, folder: Path, dims: str = "2d", **segment: object) -> np.ndarray:
    """Labels of a plane, a volume, or channels in front of a plane, tiled as untiled."""
    content = {"source": {"dims": dims}, "segment": {"method": "felzenszwalb", **segment}}
    if dims == "2d" and image.ndim == 3:
        content["source"]["channels"] = list(range(len(image)))
        image = image[:, None]
    cuts = [Cut(7 if image.shape[-1] < 50 else 64, 1), Cut(31, 2, 3)]
    result = check_image(parse_recipe(content, "recipe"), image, cuts, folder)
    assert isinstance(result, Result)
    return result.labels.reshape(image.shape if dims == "3d" else image.shape[-2:])


def numbered(labels: np.ndarray) -> np.ndarray:
    """The same partition, numbered by first pixels in raster order; 0 stays."""
    found, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    first = np.where(found == 0, -1, first)
    rank = np.argsort(np.argsort(first)) + (found[0] > 0)
    return rank[inverse].reshape(labels.shape)


def defined(
    colors: np.ndarray, scale: float, min_size: int, connectivity: int, ties: int = 0
) -> np.ndarray:
    """The definition, edge by edge; `ties`: seed of another order of edges of one weight."""
    shape = colors.shape[1:]
    edges = []
    steps = neighbour_steps(len(shape), connectivity)[connectivity // 2 :, 3 - len(shape) :]
    for p in np.ndindex(*shape):
        for step in steps:
            q = tuple(p + step)
            inside = all(0 <= i < n for i, n in zip(q, shape, strict=True))
            if inside and not np.isnan(colors[(0, *p)] + colors[(0, *q)]):
                apart = colors[(slice(None), *p)] - colors[(slice(None), *q)]
                edges.append((float(np.float32(np.sqrt((apart**2).sum()))), p, q))
    if ties:
        order = np.random.default_rng(ties).permutation(len(edges))
        edges = [edges[i] for i in order]
    edges.sort(key=lambda edge: edge[0])
    name = {p: p for p in np.ndindex(*shape)}
    members = {p: [p] for p in name}
    inner = dict.fromkeys(name, 0.0)

    def merge(a: tuple[int, ...], b: tuple[int, ...], weight: float) -> None:
        for p in members[b]:
            name[p] = a
        members[a] += members.pop(b)
        inner[a] = weight

    for weight, p, q in edges:
        a, b = name[p], name[q]
        if a != b and all(weight <= inner[c] + scale / len(members[c]) for c in (a, b)):
            merge(a, b, weight)
    for weight, p, q in edges:
        a, b = name[p], name[q]
        if a != b and min(len(members[a]), len(members[b])) < min_size:
            merge(a, b, weight)
    found = np.zeros(shape, np.int64)
    for number, pixels in enumerate(members.values(), 1):
        for p in pixels:
            found[p] = 0 if np.isnan(colors[(0, *p)]) else number
    return numbered(found)


@pytest.mark.parametrize(("scale", "min_size"), [(0, 1), (0.4, 1), (3, 1), (12, 4), (30, 5)])
@pytest.mark.parametrize("connectivity", [4, 8, 6, 26])
@pytest.mark.parametrize("levels", [3, 40])
def test_regions_are_as_defined(
    scale: float, min_size: int, connectivity: int, levels: int, tmp_path: Path
) -> None:
    dims = "2d" if connectivity in (4, 8) else "3d"
    shape = (17, 23) if dims == "2d" else (5, 9, 11)
    rng = np.random.default_rng(levels)
    image = rng.integers(0, levels, shape).astype(np.float32)
    image[ndimage.gaussian_filter(rng.random(shape), 1) > 0.58] = np.nan
    expected = defined(image[None].astype(float), scale, min_size, connectivity)
    assert expected.max() > 1
    assert np.isnan(image).any()
    found = regions(
        image,
        tmp_path,
        dims,
        scale=scale,
        min_size_px=min_size,
        sigma_px=0,
        connectivity=connectivity,
    )
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("seed", range(1, 6))
def test_ties_do_not_matter_to_the_criterion(seed: int) -> None:
    colors = np.random.default_rng(seed).integers(0, 4, (1, 13, 14)).astype(float)
    usual = defined(colors, 3, 1, 8)
    assert 3 < usual.max() < 100
    assert np.array_equal(defined(colors, 3, 1, 8, ties=seed), usual)


# A scale that is no multiple of a weight: scikit-image rejects equality, the paper does not.
@pytest.mark.parametrize("scale", [31.7, 100.37, 500.37])
@pytest.mark.parametrize("sigma_px", [0, 0.8, 2])
@pytest.mark.parametrize("kind", ["nuclei", "tissue"])
def test_regions_are_those_of_scikit_image(
    kind: str, sigma_px: float, scale: float, tmp_path: Path
) -> None:
    image = nuclei()[:200, :230] if kind == "nuclei" else tissue()
    found = regions(image, tmp_path, scale=scale, sigma_px=sigma_px, min_size_px=1)
    axis = 0 if kind == "tissue" else None
    expected = felzenszwalb(image, scale, sigma_px, min_size=1, channel_axis=axis)
    assert expected.max() > 2
    assert np.array_equal(found, numbered(expected + 1))


@pytest.mark.parametrize("min_size", [5, 20, 100])
def test_small_regions_are_merged_as_in_scikit_image_where_weights_differ(
    min_size: int, tmp_path: Path
) -> None:
    # Blurred noise has no two equal weights; on equal ones scikit-image's sort decides.
    image = np.random.default_rng(min_size).random((120, 130))
    found = regions(image, tmp_path, scale=0.37, sigma_px=1, min_size_px=min_size)
    expected = felzenszwalb(image, 0.37 * 255, 1, min_size=min_size)
    assert expected.max() > 9
    assert np.array_equal(found, numbered(expected + 1))


def test_equal_weights_are_ordered_by_place(tmp_path: Path) -> None:
    # The small region in the middle is as near to the left as to the right: the left comes first.
    image = np.tile(np.repeat([0, 50, 100], [6, 2, 6]), (8, 1)).astype(np.uint8)
    found = regions(image, tmp_path, scale=1, sigma_px=0, min_size_px=20)
    assert np.array_equal(found, np.tile(np.repeat([1, 2], [8, 6]), (8, 1)))


def test_tiles_decide_most_of_a_real_image() -> None:
    image = ndimage.gaussian_filter(nuclei().astype(float), 0.8)[None]
    core = (slice(1, -1), slice(1, -1))
    left = contract(image, None, core, 100, 20, 8)
    assert left.open.any()
    assert len(left.size) < 0.12 * image.size
    assert len(left.weight) < 0.4 * image.size
    # A tile without surroundings decides everything.
    whole = contract(image, None, (slice(None), slice(None)), 100, 20, 8)
    assert not whole.open.any()
    assert len(whole.size) == felzenszwalb(nuclei(), 100, 0.8, min_size=1).max() + 1


def test_a_frame_that_could_be_too_large_is_refused(tmp_path: Path) -> None:
    content = {"segment": {"method": "felzenszwalb", "max_frame_px": 99}}
    recipe = parse_recipe(content, "recipe")
    with pytest.raises(MethodError, match=r"has 100 px, segment.max_frame_px is 99: .* GiB"):
        run_untiled(recipe, np.zeros((10, 10), np.uint8), tmp_path)
    run_untiled(recipe, np.zeros((9, 11), np.uint8), tmp_path)


def test_what_does_not_apply_is_refused(tmp_path: Path) -> None:
    for segment, message in (
        ({"connectivity": 26}, "connectivity 26 does not exist in 2D"),
        ({"color_space": "lab"}, "takes red, green and blue, 1 channels"),
    ):
        recipe = parse_recipe({"segment": {"method": "felzenszwalb", **segment}}, "recipe")
        with pytest.raises(MethodError, match=message):
            run_untiled(recipe, np.zeros((10, 10), np.uint8), tmp_path)
