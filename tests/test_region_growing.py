"""Region growing is scikit-image's flood seed by seed, and the same for any tiling."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.segmentation import flood

from pipeline.conformance import check_image
from pipeline.errors import MethodError, RecipeError
from pipeline.kernels.components import AXES_APART
from pipeline.recipe import Recipe, parse_recipe
from pipeline.trial import Cut, Result, run_tiled, run_untiled

EXAMPLES = int(os.environ.get("TILEWRIGHT_EXAMPLES", "60")) // 2

Content = dict[str, Any]
Pixel = tuple[int, ...]


def smooth(shape: tuple[int, ...], dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    rough = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 2)
    values = (rough - rough.min()) / np.ptp(rough)
    return (values * (200 if np.dtype(dtype).kind in "iu" else 1)).astype(dtype)


def write_points(folder: Path, points: list[Pixel], ndim: int = 2) -> str:
    """A table of seeds, named after its content; returns its path."""
    axes = "zyx"[-len(points[0]) :] if points else "zyx"[-ndim:]
    rows = [",".join(axes), *(",".join(map(str, p)) for p in points)]
    path = folder / f"points-{abs(hash(tuple(rows)))}.csv"
    path.write_text("\n".join(rows) + "\n")
    return str(path)


def write_labels(folder: Path, labels: np.ndarray) -> str:
    """A label image of seeds, named after its content; returns its path."""
    axes = "ZYX"[-labels.ndim :]
    path = folder / f"labels-{abs(hash((labels.shape, labels.dtype.str, labels.tobytes())))}.tif"
    tifffile.imwrite(path, labels, metadata={"axes": axes}, photometric="minisblack")
    return str(path)


def recipe_of(seeds: Content, tolerance: float, ndim: int = 2, **more: object) -> Recipe:
    segment = {"method": "region_growing", "seeds": seeds, "tolerance": tolerance, **more}
    return parse_recipe({"source": {"dims": f"{ndim}d"}, "segment": segment}, "recipe")


# --- The definition, in plain words --------------------------------------------------------------


def region_of(image: np.ndarray, low: float, high: float, seed: list[Pixel], reach: int) -> Any:
    """The components of the pixels from low to high that hold any pixel of the seed."""
    inside = (image >= low) & (image <= high)
    found = np.zeros(image.shape, bool)
    for pixel in seed:
        if inside[pixel] and not found[pixel]:
            found |= flood(inside, pixel, connectivity=reach)
    return found


def grown(
    image: np.ndarray,
    seeds: list[list[Pixel]],
    tolerance: float,
    reach: int,
    iterations: int = 0,
    spread: float | None = None,
) -> list[np.ndarray]:
    """The region of every seed."""
    wide = image.astype(np.float64)
    regions = []
    for seed in seeds:
        own = np.array([wide[p] for p in seed])
        own = own[np.isfinite(own)]
        if len(own) == 0:
            regions.append(np.zeros(image.shape, bool))
            continue
        centre = own.mean()
        bounds = centre - tolerance, centre + tolerance
        region = region_of(wide, *bounds, seed, reach)
        for _ in range(iterations if region.any() else 0):
            mean = wide[region].mean()
            width = tolerance if spread is None else spread * wide[region].std()
            after = min(mean - width, centre), max(mean + width, centre)
            if after == bounds:
                break
            bounds = after
            region = region_of(wide, *bounds, seed, reach)
        regions.append(region)
    return regions


def first_come(regions: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of the first region at each pixel, by the raster rank of their first pixels."""
    owner = np.zeros(shape, int)
    for number, region in enumerate(regions, 1):
        owner[region & (owner == 0)] = number
    found, first = np.unique(owner, return_index=True)
    order = found[found > 0][np.argsort(first[found > 0])]
    rank = np.zeros(len(regions) + 1, int)
    rank[order] = np.arange(1, len(order) + 1)
    return rank[owner]


def labels_of(
    recipe: Recipe, image: np.ndarray, folder: Path, side: int | tuple[int, ...] | None = 11
) -> np.ndarray:
    result = (
        run_tiled(recipe, image, folder, Cut(side, 3, 2))
        if side
        else run_untiled(recipe, image, folder)
    )
    return result.labels.reshape(image.shape)


# --- Beside scikit-image -------------------------------------------------------------------------


@pytest.mark.parametrize(("ndim", "connectivity"), [(2, 4), (2, 8), (3, 6), (3, 18), (3, 26)])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_one_seed_is_the_flood_of_scikit_image(
    ndim: int, connectivity: int, dtype: str, tmp_path: Path
) -> None:
    image = smooth((40, 45) if ndim == 2 else (9, 20, 22), dtype)
    tolerance = 25 if image.dtype.kind in "iu" else 0.13
    reach = AXES_APART[ndim][connectivity]
    sizes = []
    for seed in [(3, 5, 7)[-ndim:], (6, 14, 18)[-ndim:]]:
        expected = flood(image, seed, connectivity=reach, tolerance=tolerance)
        file = write_points(tmp_path, [seed])
        recipe = recipe_of(
            {"from": "points", "file": file}, tolerance, ndim, connectivity=connectivity
        )
        for side in (None, 7, (1, 8, 9)[-ndim:]):
            assert np.array_equal(labels_of(recipe, image, tmp_path, side), expected)
        sizes.append(expected.sum())
    assert max(sizes) > 150  # over several tiles


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_of_many_seeds_the_first_has_the_pixel(dtype: str, tmp_path: Path) -> None:
    image = smooth((60, 64), dtype)
    tolerance = 12 if dtype == "uint8" else 0.06
    generator = np.random.default_rng(1)
    seeds = [tuple(int(i) for i in generator.integers(0, 60, 2)) for _ in range(40)]
    seeds = list(dict.fromkeys(seeds))
    regions = [flood(image, seed, connectivity=2, tolerance=tolerance) for seed in seeds]
    expected = first_come(regions, image.shape)
    overlapping = (np.sum(regions, axis=0) > 1).mean()
    assert overlapping > 0.2
    recipe = recipe_of({"from": "points", "file": write_points(tmp_path, seeds)}, tolerance)
    for side in (None, 9, 16):
        assert np.array_equal(labels_of(recipe, image, tmp_path, side), expected)


def test_a_drawn_image_gives_known_numbers(tmp_path: Path) -> None:
    image = np.array(
        [
            [5, 5, 0, 9, 9, 9],
            [5, 6, 0, 9, 0, 9],
            [0, 0, 7, 9, 0, 9],
            [8, 8, 8, 0, 0, 0],
        ],
        np.uint8,
    )
    # The first seed reaches 5 to 7, by a corner; the second 8 to 10; the third 7 to 9.
    seeds = [(1, 1), (0, 5), (3, 0)]
    recipe = recipe_of({"from": "points", "file": write_points(tmp_path, seeds)}, 1)
    expected = [
        [1, 1, 0, 2, 2, 2],
        [1, 1, 0, 2, 0, 2],
        [0, 0, 1, 2, 0, 2],
        [2, 2, 2, 0, 0, 0],
    ]
    # The region of the third seed is cut: the first took its 7, the second its 9 and 8.
    for side in (1, 2, 3, 6):
        assert labels_of(recipe, image, tmp_path, side).tolist() == expected
    recipe = recipe_of({"from": "points", "file": write_points(tmp_path, seeds[::-1])}, 1)
    assert labels_of(recipe, image, tmp_path, 2).tolist() == [
        [1, 1, 0, 2, 2, 2],
        [1, 1, 0, 2, 0, 2],
        [0, 0, 2, 2, 0, 2],
        [2, 2, 2, 0, 0, 0],
    ]


def test_a_region_that_is_cut_stays_one_object(tmp_path: Path) -> None:
    image = np.array([[4, 4, 5, 4, 4]] * 3, np.uint8)
    seeds = [(0, 2), (1, 0)]  # the first has the middle only
    recipe = recipe_of({"from": "points", "file": write_points(tmp_path, seeds)}, 0)
    assert labels_of(recipe, image, tmp_path, 2).tolist() == [[1, 1, 2, 0, 0]] * 3
    wide = np.array([[4, 4, 9, 4, 4], [4, 4, 5, 4, 4], [4, 4, 9, 4, 4]], np.uint8)
    both = np.array([[2, 2, 0, 2, 2], [2, 2, 1, 2, 2], [2, 2, 0, 2, 2]])
    labels = np.zeros((3, 5), np.uint8)
    labels[1, 2], labels[1, 0], labels[1, 4] = 1, 2, 2
    recipe = recipe_of({"from": "labels", "file": write_labels(tmp_path, labels)}, 0)
    found = labels_of(recipe, wide, tmp_path, 2)
    assert np.array_equal(found, np.where(both == 0, 0, 3 - both))


@pytest.mark.parametrize("spread", [None, 1.2])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_adaptive_regions_follow_their_means(
    dtype: str, spread: float | None, tmp_path: Path
) -> None:
    image = smooth((48, 50), dtype, seed=4)
    if dtype == "int16":
        image = (image - 100).astype(dtype)
    tolerance = 11 if dtype != "float32" else 0.055
    seeds = [(y, x) for y in (5, 17, 29, 41) for x in (6, 23, 44)]
    regions = grown(image, [[s] for s in seeds], tolerance, 2, 4, spread)
    plain = grown(image, [[s] for s in seeds], tolerance, 2)
    assert sum(not np.array_equal(a, b) for a, b in zip(regions, plain, strict=True)) > 6
    recipe = recipe_of(
        {"from": "points", "file": write_points(tmp_path, seeds)},
        tolerance,
        rule="adaptive",
        iterations=4,
        **({} if spread is None else {"spread": spread}),
    )
    expected = first_come(regions, image.shape)
    for side in (None, 10):
        assert np.array_equal(labels_of(recipe, image, tmp_path, side), expected)


@pytest.mark.parametrize(
    ("rule", "dtype"), [("tolerance", "uint8"), ("adaptive", "uint8"), ("adaptive", "int32")]
)
def test_a_label_image_gives_seeds_of_several_pixels(rule: str, dtype: str, tmp_path: Path) -> None:
    image = smooth((50, 44), dtype, seed=2)
    labels = np.zeros(image.shape, np.uint16)
    labels[4:9, 3:20] = 7
    labels[30:33, 10:40] = 500
    labels[40:45, 5:9] = 2
    labels[12, 40] = 7  # far from its other pixels
    seeds = [[tuple(p) for p in np.argwhere(labels == n)] for n in (2, 7, 500)]
    regions = grown(image, seeds, 15.5, 2, 10 if rule == "adaptive" else 0)
    assert all(region.any() for region in regions)
    file = write_labels(tmp_path, labels)
    recipe = recipe_of({"from": "labels", "file": file}, 15.5, rule=rule)
    for side in (None, 8):
        found = labels_of(recipe, image, tmp_path, side)
        assert np.array_equal(found, first_come(regions, image.shape))


def test_a_number_is_a_seed_of_its_own_in_each_plane(tmp_path: Path) -> None:
    stack = np.stack([smooth((30, 31), seed=n) for n in range(3)])
    labels = np.zeros(stack.shape, np.uint8)
    labels[0, 5:7, 5], labels[2, 20, 20:24] = 3, 3
    recipe = recipe_of({"from": "labels", "file": write_labels(tmp_path, labels)}, 10)
    found = labels_of(recipe, stack, tmp_path)
    expected = np.zeros(stack.shape, int)
    for plane, number in ((0, 1), (2, 2)):
        seed = [tuple(p) for p in np.argwhere(labels[plane])]
        expected[plane] = number * grown(stack[plane], [seed], 10, 2)[0]
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("objects", ["bright", "dark"])
def test_peaks_are_those_of_scikit_image(objects: str, tmp_path: Path) -> None:
    rough = ndimage.gaussian_filter(np.random.default_rng(3).random((70, 75)), 2)
    image = np.argsort(np.argsort(rough, axis=None)).reshape(rough.shape).astype(np.uint16)
    limit = 3000.5 if objects == "bright" else 2000.5
    upright = image.astype(int) if objects == "bright" else -image.astype(int)
    least = 3001 if objects == "bright" else -2000
    peaks = peak_local_max(upright, min_distance=4, threshold_abs=least - 1, exclude_border=False)
    seeds = sorted(map(tuple, peaks.tolist()))
    assert len(seeds) > 20
    foreground = {"value": limit, "objects": objects}
    recipe = recipe_of({"from": "peaks", "foreground": foreground, "min_distance_px": 4}, 300)
    result = run_tiled(recipe, image, tmp_path, Cut(13, 1, 3))
    assert result.certificate["seeds"] == len(seeds)
    regions = [flood(image, seed, connectivity=2, tolerance=300) for seed in seeds]
    assert np.array_equal(result.labels[0, 0], first_come(regions, image.shape))


# --- Edges of the definition ---------------------------------------------------------------------


def test_pixels_without_a_value_are_in_no_region(tmp_path: Path) -> None:
    image = np.full((9, 9), 1.0, np.float32)
    image[:, 4] = np.nan
    image[0, 0] = np.inf
    seeds = [(2, 4), (0, 0), (5, 1)]
    recipe = recipe_of({"from": "points", "file": write_points(tmp_path, seeds)}, 1000)
    found = labels_of(recipe, image, tmp_path, 4)
    expected = np.zeros((9, 9), int)
    expected[:, :4] = 1
    expected[0, 0] = 0
    assert np.array_equal(found, expected)


def test_no_seeds_give_no_objects(tmp_path: Path) -> None:
    image = smooth((20, 20))
    points = {"from": "points", "file": write_points(tmp_path, [])}
    labels = {"from": "labels", "file": write_labels(tmp_path, np.zeros((20, 20), np.uint8))}
    peaks = {"from": "peaks", "foreground": {"value": 250}}
    for seeds in (points, labels, peaks):
        for rule in ("tolerance", "adaptive"):
            result = run_tiled(recipe_of(seeds, 9, rule=rule), image, tmp_path, Cut(7))
            assert result.labels.max() == 0
            assert (len(result.table), result.certificate["seeds"]) == (0, 0)


def test_a_seed_is_within_its_own_interval_to_the_last_digit(tmp_path: Path) -> None:
    image = np.full((8, 8), 0.1, np.float32)
    image[:4] = 0.7
    labels = np.zeros((8, 8), np.uint8)
    labels[6:, 1:7] = 1
    for seeds in (
        {"from": "points", "file": write_points(tmp_path, [(6, 1)])},
        {"from": "labels", "file": write_labels(tmp_path, labels)},
    ):
        for rule in ("tolerance", "adaptive"):
            found = labels_of(recipe_of(seeds, 0, rule=rule), image, tmp_path, 3)
            assert np.array_equal(found, image < 0.5)


def test_the_mean_of_whole_numbers_is_exact(tmp_path: Path) -> None:
    image = np.array([[9, 6], [11, 9], [9, 6], [1, 0]], np.int32)
    labels = np.array([[0, 0], [1, 1], [1, 1], [1, 1]], np.uint8)  # their mean is 6
    seeds = {"from": "labels", "file": write_labels(tmp_path, labels)}
    expected = [[0, 0], [0, 0], [0, 1], [0, 0]]
    for side in (2, None):
        found = labels_of(recipe_of(seeds, 0, connectivity=4), image, tmp_path, side)
        assert found.tolist() == expected


def test_a_seed_whose_mean_it_does_not_have_has_no_region(tmp_path: Path) -> None:
    image = np.zeros((6, 6), np.uint8)
    image[3:] = 100
    labels = np.zeros((6, 6), np.uint8)
    labels[2:4, 2] = 1
    seeds = {"from": "labels", "file": write_labels(tmp_path, labels)}
    assert labels_of(recipe_of(seeds, 20), image, tmp_path, 4).max() == 0
    assert labels_of(recipe_of(seeds, 50), image, tmp_path, 4).min() == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"seeds": {"from": "clicks"}}, r"seeds.*'points', 'labels', 'label', 'peaks'"),
        (
            {"seeds": {"from": "points", "fiel": "a.csv"}},
            r"seeds\.points\.fiel: .*'file'.* Valid keys: file, from\.",
        ),
        ({"seeds": {"from": "points", "file": "{name}.csv"}}, "name a file beside the image"),
        ({"spread": 2.0}, "it needs `rule: adaptive`"),
        ({"tolerance": -1}, "greater than or equal to 0"),
    ],
)
def test_wrong_parameters_are_refused(content: Content, message: str) -> None:
    segment = {"method": "region_growing", "tolerance": 3, **content}
    with pytest.raises(RecipeError, match=message):
        parse_recipe({"segment": segment}, "recipe")


def test_seeds_that_do_not_fit_the_image_are_refused(tmp_path: Path) -> None:
    image = smooth((20, 20))
    outside = {"from": "points", "file": write_points(tmp_path, [(3, 3), (3, 20)])}
    with pytest.raises(MethodError, match=r"point 2 of .* outside the image of 1, 1, 20, 20 px"):
        run_untiled(recipe_of(outside, 1), image, tmp_path)
    small = {"from": "labels", "file": write_labels(tmp_path, np.ones((20, 19), np.uint8))}
    with pytest.raises(MethodError, match=r"seeds file .* has \(T, C, Z, Y, X\)"):
        run_untiled(recipe_of(small, 1), image, tmp_path)


# --- Tiled equals untiled ------------------------------------------------------------------------


@st.composite
def trials(draw: DrawFn) -> tuple[np.ndarray, Content, np.ndarray | list[Pixel], Cut]:
    ndim = draw(st.sampled_from([2, 2, 3]))
    sizes = st.integers(1, 24) if ndim == 2 else st.integers(1, 9)
    # tifffile writes pages of width 1 as pages of height 1.
    shape = (*draw(st.tuples(*[sizes] * (ndim - 1))), draw(sizes) + 1)
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    values = generator.random(shape)
    if draw(st.booleans()):
        values = ndimage.gaussian_filter(values, 1.5)
        values = (values - values.min()) / max(np.ptp(values), 1e-9)
    levels = draw(st.sampled_from([2, 4, 12, 200]))
    dtype = draw(st.sampled_from(["uint8", "int16", "float32", "float64", "int32"]))
    image = np.floor(values * (levels - 1e-9)).astype(dtype)
    if image.dtype.kind == "f":
        image = (image / np.array(7, dtype)).astype(dtype)
        image[generator.random(shape) < draw(st.sampled_from([0, 0, 0.1]))] = np.nan
    count = draw(st.integers(0, 12))
    places = np.stack([generator.integers(0, n, count) for n in shape], axis=1)
    seeds: np.ndarray | list[Pixel] = [tuple(p) for p in places.tolist()]
    if draw(st.booleans()):
        seeds = np.zeros(shape, np.uint8)
        seeds[tuple(places.T)] = generator.integers(1, 5, count)
        if draw(st.booleans()):
            seeds = ndimage.grey_dilation(seeds, [3] * ndim)
    unit = levels / 8 if image.dtype.kind in "iu" else levels / 56
    segment = {
        "method": "region_growing",
        "tolerance": draw(st.sampled_from([0, 0.5, 1, 2, 5])) * unit,
        "rule": draw(st.sampled_from(["tolerance", "adaptive"])),
        "iterations": draw(st.sampled_from([1, 3, 10])),
        "connectivity": draw(st.sampled_from(list(AXES_APART[ndim]))),
    }
    if segment["rule"] == "adaptive" and draw(st.booleans()):
        segment["spread"] = draw(st.sampled_from([0.5, 1, 2.5]))
    sides = st.tuples(*[st.integers(2, 9)] * ndim)
    cut = Cut(draw(sides), draw(st.integers(0, 99)), draw(st.sampled_from([1, 3])))
    return image, segment, seeds, cut


@given(trial=trials())
@settings(
    deadline=None,
    max_examples=EXAMPLES,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_tiled_equals_untiled_equals_the_definition(
    trial: tuple[np.ndarray, Content, np.ndarray | list[Pixel], Cut],
) -> None:
    image, segment, seeds, cut = trial
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if isinstance(seeds, list):
            content = {"from": "points", "file": write_points(folder, seeds, image.ndim)}
        else:
            content = {"from": "labels", "file": write_labels(folder, seeds)}
        recipe = parse_recipe(
            {
                "source": {"dims": f"{image.ndim}d"},
                "segment": {**segment, "seeds": content},
            },
            "drawn recipe",
        )
        result = check_image(recipe, image, [cut], folder)
    assert isinstance(result, Result)
    if segment["rule"] == "tolerance" and image.dtype.kind in "iu":
        if isinstance(seeds, list):
            pixels = [[seed] for seed in dict.fromkeys(seeds)]
        else:
            numbers = np.unique(seeds[seeds > 0])
            pixels = [[tuple(p) for p in np.argwhere(seeds == n).tolist()] for n in numbers]
        reach = AXES_APART[image.ndim][segment["connectivity"]]
        regions = grown(image, pixels, segment["tolerance"], reach)
        assert np.array_equal(result.labels.reshape(image.shape), first_come(regions, image.shape))


def test_each_tile_is_visited_a_few_times_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.growing.spread import Spread

    floods: dict[int, int] = {}
    visits: dict[int, int] = {}
    plain_map, plain_flood = Spread.map, Spread._flood

    def count_map(self: Spread, view: Any, state: Any) -> Any:
        visits[view.tile.number] = visits.get(view.tile.number, 0) + 1
        return plain_map(self, view, state)

    def count_flood(self: Spread, view: Any, *rest: Any) -> Any:
        floods[view.tile.number] = floods.get(view.tile.number, 0) + 1
        return plain_flood(self, view, *rest)

    monkeypatch.setattr(Spread, "map", count_map)
    monkeypatch.setattr(Spread, "_flood", count_flood)
    image = np.full((128, 128), 5, np.uint8)
    recipe = recipe_of({"from": "points", "file": write_points(tmp_path, [(3, 3)])}, 1)
    result = run_tiled(recipe, image, tmp_path, Cut(16))
    assert result.labels.min() == 1
    assert set(floods.values()) == {1}
    assert len(visits) == 64
    assert max(visits.values()) <= 3
    assert result.certificate["rounds"] <= 8 + 1


def test_certificates_tell_what_was_done(tmp_path: Path) -> None:
    image = smooth((40, 40))
    seeds = {"from": "peaks", "foreground": {"value": 100}, "min_distance_px": 3}
    plain = run_tiled(recipe_of(seeds, 10), image, tmp_path, Cut(16))
    adaptive = run_tiled(recipe_of(seeds, 10, rule="adaptive"), image, tmp_path, Cut(16))
    assert plain.certificate["passes"] == 1
    assert 1 < adaptive.certificate["passes"] <= 11
    assert adaptive.certificate["exact"] is True
    assert plain.digest != adaptive.digest
