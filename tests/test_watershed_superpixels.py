"""Watershed superpixels against their definition, and scikit-image's watershed of the whole image.

Definition in NumPy: markers by looking at all pixels of all cells, one component after the other.
"""

from __future__ import annotations

import functools
import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from skimage import filters, io, measure, segmentation
from superpixel_quality import achievable_accuracy, boundary_recall, undersegmentation_error

from pipeline.box import Box
from pipeline.conformance import check_image
from pipeline.errors import MethodError, RecipeError
from pipeline.gradient import gradient_magnitude
from pipeline.lattice import Lattice
from pipeline.recipe import Recipe, parse_recipe
from pipeline.trial import Cut, Result, run_tiled, run_untiled
from pipeline.watershed.cells import Candidates, candidates, chosen, ways_to_middles

DATA = Path(__file__).parent / "data"


def superpixels(
    size: float = 20, compactness: float = 0, dims: int = 2, spacing: Any = None, **own: object
) -> Recipe:
    markers = {"from": "grid", "size_px": size, "compactness": compactness, "spacing": spacing}
    segment = {"method": "watershed", "landscape": "gradient", "markers": markers, **own}
    return parse_recipe({"source": {"dims": f"{dims}d"}, "segment": segment}, "recipe")


def blobs(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 1.2).astype("f4")


def renumbered(labels: np.ndarray) -> np.ndarray:
    """The same partition, numbered by first pixels in raster order."""
    found, first = np.unique(labels, return_index=True)
    first, found = first[found > 0], found[found > 0]
    number = np.zeros(int(labels.max(initial=0)) + 1, np.int64)
    number[found[np.argsort(first)]] = np.arange(1, len(found) + 1)
    return number[labels]


# --- The definition ------------------------------------------------------------------------------


class Definition:
    """Markers and landscape of one frame, from its altitude and the pixels that are flooded."""

    def __init__(
        self,
        altitude: np.ndarray,
        mask: np.ndarray,
        size: float,
        compactness: float = 0,
        spacing: Any = None,
        connectivity: int | None = None,
    ) -> None:
        self.altitude, self.mask = altitude.astype(float), mask
        self.shape, steps = altitude.shape, spacing or (1.0,) * altitude.ndim
        self.rank = altitude.ndim if connectivity is None else connectivity
        sides = []
        for n, step in zip(self.shape, steps, strict=True):
            count = min(n, max(1, round(n * step / size)))
            sides.append(n / count)
        # Middles of cells, where pixel i has its own at i.
        self.middles = [
            (np.arange(round(n / side)) + 0.5) * side - 0.5
            for n, side in zip(self.shape, sides, strict=True)
        ]
        self.sides = sides
        grid = np.indices(self.shape).astype(float)
        self.ways = np.sqrt(
            sum(
                (np.abs(g[..., None] - m).min(axis=-1) * step / size * 2) ** 2
                for g, m, step in zip(grid, self.middles, steps, strict=True)
            )
        )
        self.landscape = self.altitude + compactness * self.ways

    def markers(self) -> np.ndarray:
        """Numbered from 1."""
        parts, count = ndimage.label(
            self.mask, ndimage.generate_binary_structure(self.mask.ndim, self.rank)
        )
        places = [
            self.best(zone & (parts == part))
            for zone in self.zones
            for part in np.unique(parts[zone])
            if part > 0
        ]
        alone = set(range(1, count + 1)) - {parts[place] for place in places}
        found = np.zeros(self.shape, int)
        for number, place in enumerate([*places, *(self.best(parts == part) for part in alone)]):
            found[place] = number + 1
        return found

    @functools.cached_property
    def zones(self) -> list[np.ndarray]:
        """The middle part of every cell."""
        found = []
        for middle in itertools.product(*self.middles):
            zone = np.ones(self.shape, bool)
            for g, m, side in zip(np.indices(self.shape), middle, self.sides, strict=True):
                zone &= np.abs(g - m) <= max(side / 3, 0.5) + 1e-9
            found.append(zone)
        return found

    def best(self, zone: np.ndarray) -> tuple[int, ...]:
        ways = np.round(self.ways**2, 9)
        return min(
            zip(*np.nonzero(zone), strict=True), key=lambda p: (self.altitude[p], ways[p], p)
        )

    def labels(self) -> np.ndarray:
        """Of scikit-image, from these markers."""
        return renumbered(
            segmentation.watershed(
                self.landscape.astype(np.float32),
                self.markers(),
                mask=self.mask,
                connectivity=self.rank,
            )
        )


CASES: dict[str, tuple[tuple[int, ...], float, float, Any]] = {
    "plain": ((61, 50), 9, 0, None),
    "compact": ((61, 50), 9, 0.05, None),
    "squares": ((48, 37), 7.3, 5, None),
    "small cells": ((30, 31), 2, 0.1, None),
    "one cell": ((21, 30), 200, 0.1, None),
    "thick pixels": ((33, 50), 8, 0.03, (1.7, 1)),
    "volume": ((11, 20, 23), 6, 0.04, None),
    "thick planes": ((6, 21, 25), 7, 0.02, (4.9, 1, 1)),
}


@pytest.mark.parametrize("name", CASES)
def test_superpixels_are_those_of_scikit_image_from_the_same_markers(
    name: str, tmp_path: Path
) -> None:
    shape, size, compactness, spacing = CASES[name]
    image = blobs(shape)
    steep = gradient_magnitude(image[None])
    expected = Definition(steep, np.ones(shape, bool), size, compactness, spacing)
    assert len(np.unique(expected.landscape.astype(np.float32))) > 0.999 * image.size
    recipe = superpixels(size, compactness, len(shape), spacing, masked=False)
    cut = Cut(tuple(5 + 4 * axis for axis in range(len(shape))), order=1, batch_tiles=3)
    for way in (Cut(max(shape)), cut):
        found = run_tiled(recipe, image, tmp_path, way)
        assert np.array_equal(found.labels.reshape(shape), expected.labels())
        # Tiles see a part of the frame; it is flooded from tile to tile.
        assert ("open_tiles" in found.certificate) == (way is cut)
    assert found.labels.max() == np.prod([len(m) for m in expected.middles])


@pytest.mark.parametrize("landscape", ["gradient", "intensity"])
@pytest.mark.parametrize("connectivity", [4, 8])
def test_components_have_markers_of_their_own(
    landscape: str, connectivity: int, tmp_path: Path
) -> None:
    image = blobs((60, 71), 3)
    limit = float(np.median(image))
    mask = image > np.float32(limit)
    altitude = gradient_magnitude(image[None]) if landscape == "gradient" else -image
    rank = 1 if connectivity == 4 else 2
    expected = Definition(altitude, mask, 8, 0.01, connectivity=rank)
    recipe = superpixels(
        8, 0.01, foreground={"value": limit}, landscape=landscape, connectivity=connectivity
    )
    for cut in (Cut(100), Cut((13, 20), 3)):
        found = run_tiled(recipe, image, tmp_path, cut).labels[0, 0]
        assert np.array_equal(found > 0, mask)
        assert np.array_equal(found, expected.labels())
    # Some components meet no middle part, and some share a cell.
    marked = expected.markers() > 0
    middle = functools.reduce(np.logical_or, expected.zones)
    assert (marked & ~middle).any()
    assert max((marked & zone).sum() for zone in expected.zones) > 1


def test_dark_objects_are_flooded_from_their_darkest_places(tmp_path: Path) -> None:
    image = blobs((40, 44), 5)
    limit = float(np.median(image))
    expected = Definition(image, image < np.float32(limit), 7, 0.02)
    foreground = {"value": limit, "objects": "dark"}
    recipe = superpixels(7, 0.02, foreground=foreground, landscape="intensity")
    found = run_tiled(recipe, image, tmp_path, Cut(16, 2)).labels[0, 0]
    assert np.array_equal(found, expected.labels())


def test_gaps_are_left_out_and_islands_among_them_are_not(tmp_path: Path) -> None:
    image = blobs((40, 43), 2)
    image[8:20, 8:20] = np.nan
    image[10, 11] = image[17:19, 14] = 0.3
    recipe = superpixels(9, masked=False)
    result = check_image(recipe, image, [Cut(11, 1)], tmp_path)
    assert isinstance(result, Result)
    found = result.labels[0, 0]
    assert np.array_equal(found > 0, np.isfinite(image))
    assert found[10, 11] not in found[20:]
    assert found[17, 14] == found[18, 14] != found[10, 11]


def test_an_even_image_becomes_the_cells(tmp_path: Path) -> None:
    image = np.full((60, 40), 7, np.uint8)
    y, x = np.indices(image.shape)
    for cut, compactness in itertools.product((Cut(60), Cut((13, 17), 1)), (0, 1)):
        recipe = superpixels(10, compactness, masked=False)
        found = run_tiled(recipe, image, tmp_path, cut).labels[0, 0]
        assert np.array_equal(found, y // 10 * 4 + x // 10 + 1)


def test_planes_have_cells_of_their_own(tmp_path: Path) -> None:
    stack = np.stack([blobs((30, 33), seed) for seed in range(3)])
    found = run_tiled(superpixels(8, masked=False), stack, tmp_path, Cut(13, 1)).labels[0]
    for number, plane in enumerate(stack):
        alone = run_untiled(superpixels(8, masked=False), plane, tmp_path).labels[0, 0]
        assert np.array_equal(found[number] - 16 * number, alone)
        assert alone.max() == 16


# --- What boxes know -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_boxes_together_know_the_markers_of_the_frame(seed: int) -> None:
    """With many ties, and regions that are no components."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(9, 30, 2)) if seed % 2 else tuple(rng.integers(5, 13, 3))
    lattice = Lattice.of_size(shape, float(rng.choice([2, 3.7, 8])), None)
    height = rng.integers(0, 3, shape).astype(np.int32 if seed % 3 else np.float32)
    region = rng.integers(0, 3, shape).astype(np.int32)
    frame = Box((0,) * len(shape), shape)
    found = candidates(lattice, frame, height, region)
    whole = np.sort(found.pixel[chosen(found)])
    cuts = [[0, *sorted(rng.choice(np.arange(1, n), 2, replace=False)), n] for n in shape]
    parts = []
    for spans in itertools.product(*[itertools.pairwise(cut) for cut in cuts]):
        box = Box(tuple(int(a) for a, _ in spans), tuple(int(b) for _, b in spans))
        inside = tuple(slice(*span) for span in spans)
        part = candidates(lattice, box, height[inside], region[inside])
        place = np.unravel_index(part.pixel, box.shape)
        linear = np.ravel_multi_index(
            tuple(p + a for p, a in zip(place, box.start, strict=True)), shape
        )
        parts.append((linear, part.region, part.cell, part.height, part.apart))
        way = ways_to_middles(lattice, box)
        assert np.array_equal(way, ways_to_middles(lattice, frame)[inside])
        assert np.array_equal(np.sqrt(part.apart), way.reshape(-1)[part.pixel])
    best = Candidates(*[np.concatenate(column) for column in zip(*parts, strict=True)])
    assert np.array_equal(np.sort(best.pixel[chosen(best)]), whole)
    expected = []
    for number in (1, 2):
        mine = region == number
        definition = Definition(-height, mine, lattice.size)
        zones = [zone & mine for zone in definition.zones if (zone & mine).any()]
        expected += [np.ravel_multi_index(definition.best(zone), shape) for zone in zones]
    assert np.array_equal(whole, np.sort(expected))


# --- What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"landscape": "distance"}, "distances have no edges"),
        ({"min_distance_px": 3}, "is of peaks"),
        ({"size": 1.5}, "greater than or equal to 2"),
        ({"compactness": -1}, "greater than or equal to 0"),
        ({"spacing": [1, 0]}, "greater than or equal to 0.000001"),
    ],
)
def test_fields_that_do_not_fit_are_explained(own: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        superpixels(**own)


def test_spacing_has_an_entry_an_axis(tmp_path: Path) -> None:
    recipe = superpixels(spacing=[1, 1, 1], masked=False)
    with pytest.raises(
        MethodError, match=r"segment\.markers\.spacing has 3 entries, a frame has 2"
    ):
        run_untiled(recipe, blobs((20, 20)), tmp_path)


# --- Beside scikit-image, on annotated images ----------------------------------------------------

NUCLEI = [
    ("large_nuclei/3ca8181367fc.png", 22),
    ("large_nuclei/28d33efef218.png", 14),
    ("crowded/d256b32adda3.png", 10),
    ("crowded/4d4ebfcae437.png", 9),
    ("small_nuclei/c75139ef0546.png", 5),
]


def nuclei(name: str) -> np.ndarray:
    image = io.imread(DATA / "demo" / name)
    return image[..., 0] if image.ndim == 3 else image


def theirs(steep: np.ndarray, count: int, compactness: float) -> np.ndarray:
    """Of scikit-image, with as close to `count` superpixels as its grid allows."""
    best, wanted = None, count
    for _ in range(6):
        labels = segmentation.watershed(steep, markers=wanted, compactness=compactness)
        found = int(labels.max())
        if best is None or abs(found - count) < abs(int(best.max()) - count):
            best = labels
        wanted = max(2, round(wanted * count / found))
    return best


def quality(labels: np.ndarray, truth: np.ndarray) -> list[float]:
    return [
        boundary_recall(labels, truth),
        1 - undersegmentation_error(labels, truth),
        achievable_accuracy(labels, truth),
    ]


@functools.cache
def own_labels(compactness: float) -> list[np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        return [
            run_untiled(
                superpixels(size, compactness, masked=False), nuclei(name), Path(folder)
            ).labels[0, 0]
            for name, size in NUCLEI
        ]


# The compactness of scikit-image is another one; these are from loose to tight.
@pytest.mark.parametrize(("ours", "other"), [(0, 0), (0.5, 0.005), (0.5, 0.05), (0.5, 0.5)])
def test_quality_is_not_worse_than_scikit_image(ours: float, other: float) -> None:
    truths = [io.imread(DATA / "truth" / name) for name, _ in NUCLEI]
    steep = [filters.sobel(nuclei(name).astype(float)) for name, _ in NUCLEI]
    labels = own_labels(ours)
    library = [theirs(g, int(own.max()), other) for g, own in zip(steep, labels, strict=True)]
    ratios = [own.max() / found.max() for own, found in zip(labels, library, strict=True)]
    assert 0.98 < min(ratios) <= max(ratios) < 1.02
    mine, other_one = (
        np.array([quality(*pair) for pair in zip(found, truths, strict=True)])
        for found in (labels, library)
    )
    assert (mine.mean(axis=0) >= other_one.mean(axis=0)).all()
    # Single images may go the other way.
    assert (mine - other_one).min() > -0.02
    assert mine.mean(axis=0).min() > 0.92


@pytest.mark.parametrize(("compactness", "share"), [(0, 0.02), (0.5, 1e-4)])
def test_ties_are_few_pixels(compactness: float, share: float, tmp_path: Path) -> None:
    """On 8-bit grey values, scikit-image decides ties by the age of its queue's entries.

    1.74 % of the pixels without compactness, which makes most altitudes distinct: 0.004 % with it.
    """
    image = nuclei("large_nuclei/3ca8181367fc.png")
    steep = gradient_magnitude(image[None])
    definition = Definition(steep, np.ones(image.shape, bool), 16, compactness)
    marked = definition.markers()
    landscape = definition.landscape.astype(np.float32)
    expected = segmentation.watershed(landscape, marked, connectivity=2)
    recipe = superpixels(16, compactness, masked=False)
    found = run_untiled(recipe, image, tmp_path).labels[0, 0]
    marker = np.zeros(int(found.max()) + 1, int)
    marker[found[marked > 0]] = marked[marked > 0]
    assert found.max() == marked.max() == len(np.unique(marker)) - 1
    assert (marker[found] != expected).mean() < share


def test_compactness_makes_short_borders(tmp_path: Path) -> None:
    image = nuclei("crowded/d256b32adda3.png")
    lengths = []
    for compactness in (0, 0.5, 2, 50):
        recipe = superpixels(12, compactness, masked=False)
        found = run_untiled(recipe, image, tmp_path).labels[0, 0]
        lengths.append(sum(one.perimeter for one in measure.regionprops(found)) / found.max())
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] < 1.1 * 4 * 11 < 1.3 * lengths[-1]
