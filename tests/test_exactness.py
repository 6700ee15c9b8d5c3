"""Tiled equals untiled, for every method and drawn images; and untiled equals scipy and skimage."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import networkx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import remove_small_objects
from skimage.segmentation import clear_border, watershed

from pipeline.conformance import check_image
from pipeline.kernels.components import AXES_APART
from pipeline.kernels.peaks import find_peaks
from pipeline.methods.registry import GROUP, method_class, method_names
from pipeline.recipe import Recipe, parse_recipe
from pipeline.trial import Cut, Result, run_tiled, run_untiled

#: Drawn runs of the main test; set it higher for a search through the night.
EXAMPLES = int(os.environ.get("TILEWRIGHT_EXAMPLES", "120"))
THOROUGH = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)

Content = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exactness")


# --- What is drawn -------------------------------------------------------------------------------


def noise(shape: tuple[int, ...], seed: int, block: int) -> np.ndarray:
    """Values of 0 to 1, equal within blocks of some pixels."""
    generator = np.random.default_rng(seed)
    coarse = generator.random([-(-n // block) for n in shape])
    for axis in range(len(shape)):
        coarse = np.repeat(coarse, block, axis)
    return coarse[tuple(slice(n) for n in shape)]


def walk(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Long thin objects: the path of a random walk is 1, the rest 0."""
    generator = np.random.default_rng(seed)
    found = np.zeros(shape)
    place = np.array([n // 2 for n in shape])
    step = np.zeros(len(shape), int)
    for _ in range(found.size // 3):
        if generator.random() < 0.2 or not step.any():
            step = generator.integers(-1, 2, len(shape))
        place = np.clip(place + step, 0, np.array(shape) - 1)
        found[tuple(place)] = 1
    return found


@st.composite
def images(draw: DrawFn, dims: str) -> np.ndarray:
    """Planes, stacks and volumes of at most 2,000 px, with ties, plateaus and gaps."""
    if dims == "2d" and draw(st.booleans()):
        shape = tuple(draw(st.tuples(st.integers(1, 44), st.integers(1, 44))))
    elif dims == "2d":
        shape = tuple(draw(st.tuples(st.integers(2, 3), st.integers(5, 25), st.integers(5, 25))))
    else:
        shape = tuple(draw(st.tuples(st.integers(1, 8), st.integers(4, 16), st.integers(4, 16))))
    seed = draw(st.integers(0, 2**16))
    kind = draw(st.sampled_from(["blocks", "smooth", "noise", "walk", "constant"]))
    if kind == "constant":
        values = np.full(shape, 0.4)
    elif kind == "smooth":
        values = ndimage.gaussian_filter(noise(shape, seed, 1), draw(st.floats(0.5, 3)))
        values = (values - values.min()) / max(np.ptp(values), 1e-9)
    elif kind == "walk":
        values = walk(shape, seed)
    else:
        values = noise(shape, seed, 1 if kind == "noise" else draw(st.integers(2, 6)))
    levels = draw(st.sampled_from([2, 3, 8, 250]))
    dtype = draw(st.sampled_from(["uint8", "uint16", "float32", "int16", "int32", "float64"]))
    image = np.floor(values * (levels - 1e-9)).astype(dtype)
    if np.dtype(dtype).kind == "i":
        image -= np.array(levels // 2, dtype)
    elif np.dtype(dtype).kind == "f":
        image = (image / np.array(7, dtype)).astype(dtype)
        gaps = draw(st.sampled_from([0, 0, 0.02, 0.3, 1]))
        generator = np.random.default_rng(seed + 1)
        image[generator.random(shape) < gaps] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    elif dtype == "uint16":
        image *= np.array(draw(st.sampled_from([1, 200])), dtype)
    return image


def foregrounds() -> st.SearchStrategy[Content]:
    return st.fixed_dictionaries(
        {},
        optional={
            "value": st.sampled_from(
                ["otsu", "multi_otsu", "li", "triangle", "isodata", "mean", 0, 0.5, 1, 2.3, 20]
            ),
            "objects": st.sampled_from(["bright", "dark"]),
        },
    )


def connectivities(dims: str) -> st.SearchStrategy[int]:
    return st.sampled_from(list(AXES_APART[int(dims[0])]))


def classifiers(dims: str, **own: st.SearchStrategy[object]) -> st.SearchStrategy[Content]:
    """Classes or objects, with `own` parameters."""
    return st.fixed_dictionaries(
        {"output": st.sampled_from(["classes", "labels"])},
        optional={"connectivity": connectivities(dims), **own},
    )


def thresholds(dims: str) -> st.SearchStrategy[Content]:
    return classifiers(dims, foreground=foregrounds())


def local_thresholds(dims: str) -> st.SearchStrategy[Content]:
    return classifiers(
        dims,
        rule=st.sampled_from(["gaussian", "mean", "median", "niblack", "sauvola"]),
        block_px=st.sampled_from([3, 5, 9]),
        offset=st.sampled_from([-0.5, 0, 1]),
        k=st.sampled_from([-0.2, 0.5]),
        r=st.sampled_from([1, 100]),
        objects=st.sampled_from(["bright", "dark"]),
    )


def hystereses(dims: str) -> st.SearchStrategy[Content]:
    return st.fixed_dictionaries(
        {},
        optional={
            "values": st.tuples(st.sampled_from([0, 0.5, 1]), st.sampled_from([1, 2.3, 20])),
            "objects": st.sampled_from(["bright", "dark"]),
            "connectivity": connectivities(dims),
        },
    ).map(_weak_and_strong)


def _weak_and_strong(content: Content) -> Content:
    values = content.pop("values", None)
    if values is None:
        return content
    weak, strong = values if content.get("objects") != "dark" else values[::-1]
    return {**content, "weak": weak, "strong": strong}


def clusterings(dims: str) -> st.SearchStrategy[Content]:
    return classifiers(
        dims,
        k=st.integers(2, 5),
        sample_px=st.sampled_from([1000, 100_000]),
        seed=st.integers(0, 3),
    )


def mixtures(dims: str) -> st.SearchStrategy[Content]:
    """Clusterings whose classes have probabilities."""
    smoothing = st.fixed_dictionaries(
        {"weight": st.sampled_from([0, 0.3, 1, 5]), "iterations": st.integers(1, 3)}
    )
    return st.builds(
        lambda content, output, own: {**content, **output, **own},
        clusterings(dims),
        st.sampled_from([{}, {"output": "probabilities"}]),
        st.fixed_dictionaries({"smoothing": st.one_of(st.none(), smoothing)}),
    )


def markers() -> st.SearchStrategy[Content]:
    """Ways to find markers, with the fields that go with each."""
    return st.one_of(
        st.builds(
            lambda distance: {} if distance is None else {"min_distance_px": distance},
            st.sampled_from([None, 0, 1, 2, 5, 30]),
        ),
        st.builds(
            lambda value: {"markers": {"from": "threshold", "value": value}},
            st.sampled_from([0.5, 1, 1.4, 2, 10, 100]),
        ),
        st.builds(
            lambda h: {"markers": {"from": "h_minima", "h": h}},
            st.sampled_from([0.05, 0.3, 1, 2, 40]),
        ),
    )


def grids(dims: str) -> st.SearchStrategy[Content]:
    """Markers of superpixels."""
    spacings = {2: [[1, 1], [1.5, 1]], 3: [[1, 1, 1], [2.5, 1, 1]]}[int(dims[0])]
    return st.builds(
        lambda fields: {"markers": {"from": "grid", **fields}},
        st.fixed_dictionaries(
            {"size_px": st.sampled_from([2, 3.7, 6, 10, 40])},
            optional={
                "compactness": st.sampled_from([0, 0.03, 0.5, 4, 1e6]),
                "spacing": st.sampled_from(spacings),
            },
        ),
    )


def markers_on(landscape: str, dims: str) -> st.SearchStrategy[Content]:
    """Markers that a landscape may have."""
    return markers() if landscape == "distance" else st.one_of(markers(), grids(dims))


def watersheds(dims: str) -> st.SearchStrategy[Content]:
    ways = [(True, "distance"), (True, "intensity"), (False, "intensity")]
    ways += [(True, "gradient"), (False, "gradient")]
    classifier = {"method": "kmeans", "k": 3, "object_classes": [2, 3], "output": "labels"}
    local = {"method": "local_threshold", "block_px": 5, "objects": "dark"}
    return st.builds(
        lambda basis, rest: {**basis, **rest},
        st.sampled_from(ways).flatmap(
            lambda way: markers_on(way[1], dims).map(
                lambda marked: {"masked": way[0], "landscape": way[1], **marked}
            )
        ),
        st.fixed_dictionaries(
            {"foreground": st.one_of(foregrounds(), st.sampled_from([classifier, local]))},
            optional={
                "smooth_px": st.sampled_from([0, 0.1, 0.5, 1, 3.3]),
                "max_distance_px": st.sampled_from([1, 2, 5, 256]),
                "connectivity": connectivities(dims),
                "lines": st.booleans(),
            },
        ),
    )


def mean_shifts(dims: str) -> st.SearchStrategy[Content]:
    joint = {"spatial_px": st.integers(1, 4), "iterations": st.integers(1, 5)}
    return st.builds(
        lambda bandwidth, rest, place: {"bandwidth": bandwidth, **rest, **place},
        st.sampled_from([None, 0.3, 1, 30]),
        classifiers(dims, max_classes=st.integers(1, 5)),
        st.one_of(st.just({}), st.fixed_dictionaries(joint)),
    )


#: Boxes that hold the first pixel of every image, so that none lies outside.
CORNER = Path(__file__).parent / "data" / "corner.boxes.csv"


def grabcuts(dims: str) -> st.SearchStrategy[Content]:
    return st.fixed_dictionaries(
        {"boxes": st.just({"file": str(CORNER)})},
        optional={
            "margin_px": st.sampled_from([1, 3, 8, 100]),
            "iterations": st.integers(1, 5),
            "seed": st.integers(0, 3),
        },
    )


def region_growings(dims: str) -> st.SearchStrategy[Content]:
    seeds = st.fixed_dictionaries(
        {"from": st.just("peaks"), "foreground": foregrounds()},
        optional={"min_distance_px": st.sampled_from([0, 1, 3, 9])},
    )
    rules = st.sampled_from([{}, {"rule": "adaptive"}, {"rule": "adaptive", "spread": 1.5}])
    return st.builds(
        lambda rule, rest: {**rule, **rest},
        rules,
        st.fixed_dictionaries(
            {"seeds": seeds, "tolerance": st.sampled_from([0, 0.1, 0.3, 1, 2.5, 30])},
            optional={
                "iterations": st.sampled_from([1, 2, 7]),
                "connectivity": connectivities(dims),
            },
        ),
    )


def superpixels(dims: str) -> st.SearchStrategy[Content]:
    sizes = st.one_of(
        st.builds(lambda n: {"segments": n}, st.sampled_from([1, 3, 20, 500])),
        st.builds(lambda n: {"size_px": n}, st.sampled_from([2, 3.7, 6, 40])),
    )
    local = {"method": "local_threshold", "block_px": 5, "objects": "dark", "output": "labels"}
    spacings = {2: [[1, 1], [1.5, 1]], 3: [[1, 1, 1], [2.5, 1, 1]]}[int(dims[0])]
    return st.builds(
        lambda size, rest: {**size, **rest},
        sizes,
        st.fixed_dictionaries(
            {"iterations": st.integers(1, 5)},
            optional={
                "compactness": st.sampled_from([0.1, 1, 10, 300]),
                "variant": st.sampled_from(["slic", "slico"]),
                "tolerance": st.sampled_from([0, 0.3, 2]),
                "min_size_factor": st.sampled_from([0, 0.25, 1, 3]),
                "mask": st.one_of(foregrounds(), st.just(local)),
                "spacing": st.sampled_from(spacings),
                "value_range": st.sampled_from([[0, 2], [-5, 200]]),
            },
        ),
    )


def felzenszwalbs(dims: str) -> st.SearchStrategy[Content]:
    return st.fixed_dictionaries(
        {
            "scale": st.sampled_from([0, 0.3, 2, 10.7, 60, 1000]),
            "sigma_px": st.sampled_from([0, 0, 0.3, 0.8]),
            "min_size_px": st.sampled_from([1, 2, 3, 7, 30]),
        },
        optional={"connectivity": connectivities(dims)},
    )


def quickshifts(dims: str) -> st.SearchStrategy[Content]:
    return st.fixed_dictionaries(
        {
            "kernel_size": st.sampled_from([0.3, 1, 2.2]),
            "max_dist": st.sampled_from([0, 1, 1.5, 3, 6.1, 1000]),
            "ratio": st.sampled_from([0, 0.05, 1]),
        },
        optional={"sigma_px": st.sampled_from([0, 0.3, 0.8])},
    )


#: Whether networks can be drawn.
HAS_NETS = find_spec("torch") is not None


def networks(dims: str, channels: int = 1) -> st.SearchStrategy[Content]:
    """Tiny networks on tiny blocks, with and without statistics of the frame."""
    from tests.nets.models import tiny_model

    ndim = int(dims[0])
    norm = st.sampled_from(["none", "batch", "batch", "instance"])
    kind = st.sampled_from(["percentiles", "mean_std"])
    models = st.builds(
        lambda norm, kind: tiny_model(
            arguments={"dims": ndim, "depth": 1, "base_channels": 2, "norm": norm},
            ndim=ndim,
            channels=[f"channel {i}" for i in range(channels)],
            normalisation={"kind": kind},
        ),
        norm,
        kind,
    )
    smoothing = st.fixed_dictionaries({"weight": st.sampled_from([0, 1]), "iterations": st.just(2)})
    return st.fixed_dictionaries(
        {
            "model": models,
            "block_px": st.sampled_from([16, 17, 24]),
            "output": st.sampled_from(["classes", "labels", "probabilities"]),
        },
        optional={
            "augment": st.sampled_from([["rotations"], ["flips"]][: 4 - ndim]),
            "smoothing": smoothing,
            "connectivity": connectivities(dims),
        },
    )


#: Draws the parameters of each of our methods.
PARAMETERS: dict[str, Callable[[str], st.SearchStrategy[Content]]] = {
    "felzenszwalb": felzenszwalbs,
    "gmm": mixtures,
    "grabcut": grabcuts,
    "hysteresis": hystereses,
    "kmeans": clusterings,
    "local_threshold": local_thresholds,
    "mean_shift": mean_shifts,
    "region_growing": region_growings,
    "slic": superpixels,
    "quickshift": quickshifts,
    "threshold": thresholds,
    "watershed": watersheds,
    **({"network": networks} if HAS_NETS else {}),
}

FILTERS = st.one_of(
    st.builds(
        lambda s: {"filter": "gaussian", "sigma_px": s}, st.sampled_from([0.1, 0.3, 0.7, 1, 2.1])
    ),
    st.builds(lambda r: {"filter": "median", "radius_px": r}, st.integers(1, 2)),
    st.builds(lambda r: {"filter": "subtract_background", "radius_px": r}, st.integers(1, 6)),
)

POSTPROCESS = st.fixed_dictionaries(
    {},
    optional={
        "fill_holes": st.just(True),
        "clear_border": st.just(True),
        "min_size_px": st.integers(1, 12),
        "max_size_px": st.integers(10, 300),
    },
)


@st.composite
def recipes(draw: DrawFn, dims: str) -> Recipe:
    defined = [name for name in sorted(PARAMETERS) if int(dims[0]) in method_class(name).dims]
    method = draw(st.sampled_from(defined))
    segment = {"method": method, **draw(PARAMETERS[method](dims))}
    content = {
        "source": {"dims": dims},
        "preprocess": draw(st.lists(FILTERS, max_size=2)),
        "segment": segment,
        "postprocess": draw(POSTPROCESS) if segment.get("output") in (None, "labels") else {},
    }
    return parse_recipe(content, "drawn recipe")


@st.composite
def cuts(draw: DrawFn, dims: str) -> Cut:
    sides = st.tuples(*[st.integers(1 if dims == "3d" else 4, 17)] * int(dims[0]))
    side = draw(st.one_of(st.integers(5, 16), sides))
    return Cut(side, draw(st.integers(0, 99)), draw(st.sampled_from([1, 3])))


@st.composite
def trials(draw: DrawFn) -> tuple[Recipe, np.ndarray, list[Cut], int]:
    dims = draw(st.sampled_from(["2d", "2d", "3d"]))
    recipe, image = draw(recipes(dims)), draw(images(dims))
    margin = draw(st.sampled_from([1, 1, 2, 4, 16]))
    return recipe, image, [draw(cuts(dims)) for _ in range(draw(st.integers(1, 2)))], margin


# --- Tiled equals untiled ------------------------------------------------------------------------


def test_every_method_of_ours_is_drawn() -> None:
    ours = {
        point.name
        for point in entry_points(group=GROUP)
        if point.dist is not None and point.dist.name == "tilewright"
    }
    # Given labels must have the image's size: tests/test_graph.py and test_given.py draw them. What
    # needs a network is in tests/detection; what needs another label, in tests/test_volumes.py.
    assert ours == {*PARAMETERS, "difference", "given", "mask_rcnn", "network", "panoptic"}
    assert not HAS_NETS or "network" in PARAMETERS
    assert ours <= set(method_names())


@given(trial=trials())
@settings(THOROUGH, max_examples=EXAMPLES)
def test_tiled_equals_untiled(trial: tuple[Recipe, np.ndarray, list[Cut], int]) -> None:
    recipe, image, ways, margin = trial
    # Any margin gives the same labels; a small one leaves components of a few px to the relaxation.
    small = mock.patch("pipeline.watershed.flood.MARGIN_PX", (margin, margin))
    with tempfile.TemporaryDirectory() as folder, small:
        check_image(recipe, image, ways, Path(folder))


def splits_of_classes(dims: str) -> st.SearchStrategy[Content]:
    """Watersheds of a map of colours."""
    return st.builds(
        lambda classes, basis, lines: {
            "foreground": {"method": "kmeans", **classes, "output": "labels"},
            "lines": lines,
            **basis,
        },
        clusterings(dims),
        st.sampled_from(["distance", "gradient"]).flatmap(
            lambda landscape: markers_on(landscape, dims).map(
                lambda marked: {"landscape": landscape, **marked}
            )
        ),
        st.booleans(),
    )


#: Methods that take several channels.
OF_CHANNELS: dict[str, Callable[[str], st.SearchStrategy[Content]]] = {
    "felzenszwalb": felzenszwalbs,
    "gmm": mixtures,
    "kmeans": clusterings,
    "mean_shift": mean_shifts,
    "slic": superpixels,
    "quickshift": quickshifts,
    "watershed": splits_of_classes,
    **({"network": networks} if HAS_NETS else {}),
}


@st.composite
def trials_of_channels(draw: DrawFn) -> tuple[Recipe, np.ndarray, Cut]:
    dims = draw(st.sampled_from(["2d", "2d", "3d"]))
    defined = [name for name in sorted(OF_CHANNELS) if int(dims[0]) in method_class(name).dims]
    method = draw(st.sampled_from(defined))
    segment = {"method": method, **draw(OF_CHANNELS[method](dims))}
    space = draw(st.sampled_from(["raw", "lab"]))
    if method != "network":
        segment.get("foreground", segment)["color_space"] = space
    if method == "slic":  # thresholds take one channel, and L*a*b* has a range of its own
        segment.pop("value_range" if space == "lab" else "", None)
        if "mask" in segment:
            segment["mask"] = {"method": "kmeans", "k": 3, "output": "labels"}
    if method == "mean_shift":  # the modes of small bandwidths take long to find
        segment["bandwidth"] = draw(st.sampled_from([None, 30, 60]))
    channels = 3 if space == "lab" else draw(st.integers(2, 4))
    if method == "network":  # a model takes so many channels, and no others
        segment |= draw(networks(dims, channels))
    shape = (1, 19, 24) if dims == "2d" else (5, 11, 12)
    seed = draw(st.integers(0, 2**16))
    smooth = [ndimage.gaussian_filter(noise(shape, seed + c, 1), 1) for c in range(channels)]
    dtype = draw(st.sampled_from(["uint8", "int32", "float32"]))
    image = (np.stack(smooth) * 250).astype(dtype)
    if dtype == "float32":
        image /= 250 if space == "lab" else 7
        image[:, noise(shape, seed + 9, 2) < 0.05] = np.nan
    content = {"source": {"dims": dims, "channels": list(range(channels))}, "segment": segment}
    return parse_recipe(content, "drawn recipe"), image, draw(cuts(dims))


@given(trial=trials_of_channels(), margin=st.sampled_from([1, 16]))
@settings(THOROUGH, max_examples=EXAMPLES // 4)
def test_tiled_equals_untiled_in_several_channels(
    trial: tuple[Recipe, np.ndarray, Cut], margin: int
) -> None:
    recipe, image, cut = trial
    small = mock.patch("pipeline.watershed.flood.MARGIN_PX", (margin, margin))
    with tempfile.TemporaryDirectory() as folder, small:
        check_image(recipe, image, [cut], Path(folder))


@st.composite
def winding_masks(draw: DrawFn) -> np.ndarray:
    """Objects that wind through many small tiles and meet them at corners."""
    shape = draw(st.tuples(st.integers(12, 26), st.integers(12, 26)))
    seed = draw(st.integers(0, 2**16))
    if draw(st.booleans()):
        mask = walk(shape, seed) > 0
    else:
        mask = noise(shape, seed, 1) < draw(st.sampled_from([0.45, 0.6, 0.8]))
    values = noise(shape, seed + 1, draw(st.sampled_from([1, 1, 3]))) * draw(
        st.sampled_from([1, 3, 200])
    )
    return np.where(mask, values + 1, 0).astype(np.uint8)


@given(
    image=winding_masks(),
    landscape=st.sampled_from(["distance", "intensity", "gradient"]),
    marked=markers(),
    parameters=st.fixed_dictionaries(
        {
            "smooth_px": st.sampled_from([0, 0.5, 1, 2]),
            "max_distance_px": st.sampled_from([1, 2, 3, 256]),
            "connectivity": st.sampled_from([4, 8, 8]),
            "lines": st.booleans(),
        }
    ),
    cut=st.builds(
        Cut, st.tuples(st.integers(2, 6), st.integers(2, 6)), st.integers(0, 99), st.just(1)
    ),
)
@settings(THOROUGH, max_examples=EXAMPLES // 2)
def test_components_that_no_window_holds_are_flooded_as_in_one_tile(
    image: np.ndarray, landscape: str, marked: Content, parameters: Content, cut: Cut
) -> None:
    segment = {
        "method": "watershed",
        "foreground": {"value": 0},
        "landscape": landscape,
        **marked,
        **parameters,
    }
    recipe = parse_recipe({"segment": segment}, "recipe")
    small = mock.patch("pipeline.watershed.flood.MARGIN_PX", (1, 1))
    with tempfile.TemporaryDirectory() as folder, small:
        check_image(recipe, image, [cut], Path(folder))


# --- Whole-image oracles -------------------------------------------------------------------------


def masks(dims: str) -> st.SearchStrategy[np.ndarray]:
    """Random masks, dense and thin, as uint8."""
    shapes = {
        "2d": st.tuples(st.integers(1, 32), st.integers(1, 32)),
        "3d": st.tuples(st.integers(1, 8), st.integers(1, 12), st.integers(1, 12)),
    }

    def mask(shape: tuple[int, ...], seed: int, kind: float | None) -> np.ndarray:
        found = walk(shape, seed) > 0 if kind is None else noise(shape, seed, 1) < kind
        return found.astype(np.uint8)

    kinds = st.sampled_from([None, 0.2, 0.35, 0.5, 0.65, 0.85])
    return st.builds(mask, shapes[dims], st.integers(0, 2**16), kinds)


def components_of(
    mask: np.ndarray,
    connectivity: int | None,
    folder: Path,
    cut: Cut,
    dims: str = "2d",
    **postprocess: object,
) -> np.ndarray:
    """Labels by the engine, without axes of size 1 before the mask's."""
    segment = {"method": "threshold", "foreground": {"value": 0}, "connectivity": connectivity}
    content = {"source": {"dims": dims}, "segment": segment, "postprocess": postprocess}
    result = run_tiled(parse_recipe(content, "recipe"), mask, folder, cut)
    return result.labels.reshape(mask.shape)


def neighbourhood(ndim: int, connectivity: int) -> np.ndarray:
    return ndimage.generate_binary_structure(ndim, AXES_APART[ndim][connectivity])


def renumbered(labels: np.ndarray) -> np.ndarray:
    """The same partition, numbered by first pixels in raster order."""
    found, first = np.unique(labels, return_index=True)
    first, found = first[found > 0], found[found > 0]
    number = np.zeros(int(labels.max(initial=0)) + 1, np.int64)
    number[found[np.argsort(first)]] = np.arange(1, len(found) + 1)
    return number[labels]


@pytest.mark.parametrize(("ndim", "connectivity"), [(2, 4), (2, 8), (3, 6), (3, 18), (3, 26)])
def test_components_equal_scipy_numbers_included(ndim: int, connectivity: int) -> None:
    dims = f"{ndim}d"

    @given(mask=masks(dims), cut=cuts(dims))
    @settings(THOROUGH, max_examples=12)
    def check(mask: np.ndarray, cut: Cut) -> None:
        with tempfile.TemporaryDirectory() as folder:
            found = components_of(mask, connectivity, Path(folder), cut, dims)
        expected, _ = ndimage.label(mask, neighbourhood(ndim, connectivity))
        assert np.array_equal(found, expected)

    check()


@pytest.mark.parametrize("connectivity", [4, 8])
def test_planes_of_a_stack_are_labelled_each_by_itself(connectivity: int, folder: Path) -> None:
    stack = (noise((2, 5, 23, 31), 3, 1) < 0.5).astype(np.uint8)[:, None]
    segment = {
        "method": "threshold",
        "foreground": {"value": 0},
        "connectivity": connectivity,
    }
    found = run_tiled(parse_recipe({"segment": segment}, "r"), stack, folder, Cut((7, 10), 5, 3))
    structure = np.zeros((3, 3, 3, 3), bool)
    structure[1, 1] = neighbourhood(2, connectivity)
    expected, count = ndimage.label(stack[:, 0], structure)
    assert count > 60
    assert np.array_equal(found.labels, expected)


@pytest.mark.parametrize("dims", ["2d", "3d"])
def test_filled_holes_equal_scipy(dims: str) -> None:
    full = {"2d": 8, "3d": 26}[dims]

    @given(mask=masks(dims), cut=cuts(dims))
    @settings(THOROUGH, max_examples=15)
    def check(mask: np.ndarray, cut: Cut) -> None:
        with tempfile.TemporaryDirectory() as folder:
            found = components_of(mask, full, Path(folder), cut, dims, fill_holes=True)
        # Where objects are joined at corners, the background is joined at faces, as scipy has it.
        filled = ndimage.binary_fill_holes(mask)
        expected, _ = ndimage.label(filled, neighbourhood(mask.ndim, full))
        assert np.array_equal(found, expected)

    check()


def filled_by_definition(labels: np.ndarray) -> np.ndarray:
    """Fill holes by taking each object out of the graph of regions and searching from outside."""
    background, count = ndimage.label(labels == 0)
    objects = int(labels.max())
    regions = np.where(labels > 0, labels.astype(np.int64), background + objects)
    graph = networkx.Graph()
    graph.add_nodes_from(range(objects + count + 1))
    for axis in range(labels.ndim):
        a = np.moveaxis(regions, axis, 0)
        graph.add_edges_from(np.stack([a[:-1].ravel(), a[1:].ravel()], axis=1).tolist())
        graph.add_edges_from((0, int(n)) for n in np.unique(a[[0, -1]]))
    enclosed = {}
    for n in range(1, objects + 1):
        rest = graph.copy()
        rest.remove_node(n)
        enclosed[n] = set(rest) - networkx.node_connected_component(rest, 0)
    filled = labels.astype(np.int64)
    # From the inside out: the outermost object has the last word.
    for n in sorted(enclosed, key=lambda n: len(enclosed[n])):
        filled[np.isin(regions, list(enclosed[n]))] = n
    return renumbered(filled)


@pytest.mark.parametrize(("ndim", "connectivity"), [(2, 4), (2, 8), (3, 6), (3, 18)])
def test_filled_holes_equal_the_removal_of_each_object(ndim: int, connectivity: int) -> None:
    dims = f"{ndim}d"

    @given(mask=masks(dims), cut=cuts(dims))
    @settings(THOROUGH, max_examples=10)
    def check(mask: np.ndarray, cut: Cut) -> None:
        with tempfile.TemporaryDirectory() as folder:
            found = components_of(mask, connectivity, Path(folder), cut, dims, fill_holes=True)
        labels, _ = ndimage.label(mask, neighbourhood(ndim, connectivity))
        assert np.array_equal(found, filled_by_definition(labels))

    check()


@given(
    mask=masks("2d"),
    cut=cuts("2d"),
    distance=st.integers(0, 3),
    connectivity=st.sampled_from([4, 8]),
)
@settings(THOROUGH, max_examples=15)
def test_holes_of_touching_objects_equal_the_removal_of_each_object(
    mask: np.ndarray, cut: Cut, distance: int, connectivity: int
) -> None:
    segment = {
        "method": "watershed",
        "foreground": {"value": 0},
        "min_distance_px": distance,
        "smooth_px": 0,
        "connectivity": connectivity,
    }
    plain = parse_recipe({"segment": segment}, "recipe")
    filling = parse_recipe({"segment": segment, "postprocess": {"fill_holes": True}}, "recipe")
    with tempfile.TemporaryDirectory() as folder:
        labels = run_untiled(plain, mask, Path(folder)).labels.reshape(mask.shape)
        found = run_tiled(filling, mask, Path(folder), cut).labels.reshape(mask.shape)
    assert np.array_equal(found, filled_by_definition(labels))


@given(mask=masks("2d"), cut=cuts("2d"))
@settings(THOROUGH, max_examples=10)
def test_cleared_border_equals_skimage(mask: np.ndarray, cut: Cut) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = components_of(mask, 8, Path(folder), cut, clear_border=True)
    labels, _ = ndimage.label(mask, neighbourhood(2, 8))
    assert np.array_equal(found, renumbered(clear_border(labels)))


def test_cleared_border_of_a_volume_equals_skimage(folder: Path) -> None:
    mask = (noise((9, 21, 22), 1, 1) < 0.14).astype(np.uint8)
    found = components_of(mask, 26, folder, Cut((4, 7, 9), 3, 3), "3d", clear_border=True)
    labels, before = ndimage.label(mask, neighbourhood(3, 26))
    expected = renumbered(clear_border(labels))
    assert 0 < expected.max() < before
    assert np.array_equal(found, expected)


@pytest.mark.filterwarnings("ignore:Only one label was provided")
@given(mask=masks("2d"), cut=cuts("2d"), smallest=st.integers(1, 9), more=st.integers(0, 30))
@settings(THOROUGH, max_examples=10)
def test_size_limits_equal_skimage(mask: np.ndarray, cut: Cut, smallest: int, more: int) -> None:
    largest = smallest + more
    limits = {"min_size_px": smallest, "max_size_px": largest}
    with tempfile.TemporaryDirectory() as folder:
        found = components_of(mask, 4, Path(folder), cut, **limits)
    labels, _ = ndimage.label(mask)
    too_large = remove_small_objects(labels, max_size=largest)
    expected = remove_small_objects(labels, max_size=smallest - 1)
    assert np.array_equal(found, renumbered(np.where(too_large > 0, 0, expected)))


def test_borders_are_cleared_after_holes_are_filled_and_before_sizes_are_compared(
    folder: Path,
) -> None:
    image = np.zeros((20, 20), np.uint8)
    image[0:9, 2:11] = 1
    image[3:6, 5:8] = 0
    image[4, 6] = 1  # in a hole of an object at the border
    image[12:17, 12:17] = 1
    image[14, 14] = 0  # 24 px, 25 with its hole
    found = components_of(
        image, 8, folder, Cut(6), fill_holes=True, clear_border=True, min_size_px=25
    )
    expected = np.zeros((20, 20), int)
    expected[12:17, 12:17] = 1
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_watershed_of_distinct_altitudes_equals_skimage(
    masked: bool, connectivity: int, seed: int, folder: Path
) -> None:
    rough = ndimage.gaussian_filter(noise((60, 75), seed, 1), 2)
    image = np.argsort(np.argsort(rough, axis=None)).reshape(rough.shape).astype(np.uint16)
    segment = {
        "method": "watershed",
        "foreground": {"value": 1800},
        "masked": masked,
        "landscape": "intensity",
        "min_distance_px": 3,
        "connectivity": connectivity,
    }
    found = run_tiled(parse_recipe({"segment": segment}, "recipe"), image, folder, Cut(16, seed, 3))
    mask = image > 1800 if masked else np.ones(image.shape, bool)
    region, _ = ndimage.label(mask, neighbourhood(2, connectivity))
    peaks = find_peaks(image.astype(np.int32), region.astype(np.int32), 3)
    markers = np.zeros(image.size, np.int32)
    markers[peaks] = np.arange(1, len(peaks) + 1)
    structure = neighbourhood(2, connectivity)
    expected = watershed(-image.astype(int), markers.reshape(image.shape), structure, mask=mask)
    assert len(peaks) > 20
    assert np.array_equal(found.labels[0, 0], renumbered(expected))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
@pytest.mark.parametrize("objects", ["bright", "dark"])
def test_otsu_equals_skimage_to_the_last_digit(dtype: str, objects: str, folder: Path) -> None:
    for seed, levels in ((0, 2), (1, 3), (2, 60), (3, 127 if dtype.endswith("8") else 30_000)):
        values = ndimage.gaussian_filter(noise((50, 61), seed, 1), 2)
        values = (values - values.min()) / np.ptp(values)
        image = np.rint(values * levels - (levels // 2 if dtype[0] == "i" else 0)).astype(dtype)
        rule = {"objects": objects}
        recipe = parse_recipe({"segment": {"method": "threshold", "foreground": rule}}, "recipe")
        found = run_tiled(recipe, image, folder, Cut(16, seed, 3))
        expected = threshold_otsu(image)
        assert found.certificate["threshold"] == expected
        mask = image > expected if objects == "bright" else image <= expected
        labels, _ = ndimage.label(mask, neighbourhood(2, 8))
        assert np.array_equal(found.labels[0, 0], labels)


def spiral(side: int, pitch: int) -> np.ndarray:
    """One object of 1 px width, larger than any tile; its turns are `pitch` px apart."""
    found = np.zeros((side, side), np.uint8)
    for angle in np.arange(0, 2 * math.pi * (side / 2 - 4) / pitch, 0.002):
        radius = pitch * angle / (2 * math.pi)
        y, x = side / 2 + radius * np.sin(angle), side / 2 + radius * np.cos(angle)
        found[int(y), int(x)] = 1
    return found


def box_of_first(result: Result) -> Iterator[int]:
    for name in ("bbox_y_start_px", "bbox_x_start_px", "bbox_y_stop_px", "bbox_x_stop_px"):
        yield result.table[name][0].as_py()


@pytest.mark.parametrize(
    ("segment", "pitch"),
    [
        ({"method": "threshold"}, 4),
        # One peak, for no second one is farther than 200 px from it. A relaxation takes as many
        # rounds as the object crosses tiles, so there are fewer turns.
        ({"method": "watershed", "min_distance_px": 200, "smooth_px": 0}, 30),
        ({"method": "watershed", "min_distance_px": 200, "landscape": "intensity"}, 30),
    ],
    ids=["threshold", "distance", "intensity"],
)
def test_an_object_larger_than_any_tile_is_whole(
    segment: Content, pitch: int, folder: Path
) -> None:
    image = spiral(200, pitch)
    recipe = parse_recipe({"segment": {"foreground": {"value": 0}, **segment}}, "recipe")
    found = run_tiled(recipe, image, folder, Cut(16, 1, 3))
    assert np.array_equal(found.labels[0, 0], image)
    place = np.argwhere(image)
    assert list(box_of_first(found)) == [*place.min(axis=0), *(place.max(axis=0) + 1)]
    assert found.table["area_px"].to_pylist() == [image.sum()]
