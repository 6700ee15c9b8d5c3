"""Ways to make regions of superpixels: ours as recipes, and scikit-image's calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage
from skimage import graph as skgraph
from skimage.color import rgb2lab
from skimage.filters import sobel
from skimage.measure import label
from skimage.morphology import h_minima
from skimage.segmentation import slic, watershed

Content = dict[str, Any]
#: Of the smoothing before a watershed, in px.
SIGMA_PX = 1.0
#: Of similarities for normalised cuts: in L*a*b*, and in grey values of 8 bits.
LAB_SIGMA, GREY_SIGMA = 25.0, 40.0


@dataclass(frozen=True)
class Scene:
    """An image and its annotation.

    Parameters
    ----------
    name : str
    image : ndarray of shape (C, Z, Y, X), uint8
        Red, green, blue; or raw values and the probability of a membrane.
    truth : ndarray of shape (Z, Y, X), int
    supplied : ndarray of shape (Z, Y, X), uint16, or None
        Superpixels that came with the image.
    """

    name: str
    image: np.ndarray
    truth: np.ndarray
    supplied: np.ndarray | None = None


@dataclass(frozen=True)
class Superpixels:
    """Superpixels by this project and by scikit-image.

    Parameters
    ----------
    name : str
    recipe : dict
        Sections of the recipe but `merge`.
    library : callable
        Scene -> labels of shape (Z, Y, X).
    are_few : bool
        Hundreds, not thousands.
    """

    name: str
    recipe: Content
    library: Callable[[Scene], np.ndarray]
    are_few: bool


@dataclass(frozen=True)
class Way:
    """A way of merging.

    Parameters
    ----------
    name : str
    merge : dict
        The recipe's section without `value`; empty: superpixels as they are.
    values : sequence of float
        Which are tried.
    library : callable or None
        (labels, scene, value) -> labels, where scikit-image has this way.
    is_slow : bool
        scikit-image takes so long that it gets our value, and only where superpixels are few.
    """

    name: str
    merge: Content
    values: Sequence[float] = (0.0,)
    library: Callable[[np.ndarray, Scene, float], np.ndarray] | None = None
    is_slow: bool = False


def is_color(scene: Scene) -> bool:
    return len(scene.image) == 3


def colors(scene: Scene) -> np.ndarray:
    """What regions are compared by: (Z, Y, X, 3)."""
    if is_color(scene):
        return np.asarray(rgb2lab(np.moveaxis(scene.image, 0, -1)))
    raw, probability = scene.image.astype(float)
    return np.stack([raw, probability, np.zeros_like(raw)], axis=-1)


def borders(scene: Scene) -> np.ndarray:
    """What is high between objects: the gradient over all colours, or the probability."""
    if not is_color(scene):
        return scene.image[1].astype(float)
    smooth = [
        ndimage.gaussian_filter(c.astype(float), (0, SIGMA_PX, SIGMA_PX)) for c in scene.image
    ]
    return np.sqrt(sum(np.stack([sobel(plane) for plane in c]) ** 2 for c in smooth))


# --- scikit-image's superpixels ------------------------------------------------------------------


def library_slic(scene: Scene) -> np.ndarray:
    rgb = np.moveaxis(scene.image[:, 0], 0, -1)
    # It gives 601 on the bundled image, where ours of 600 gives 581.
    return np.asarray(slic(rgb, n_segments=900, compactness=10, start_label=1))[None]


def library_basins(scene: Scene) -> np.ndarray:
    height = borders(scene)
    if not is_color(scene):
        height = np.rint(ndimage.gaussian_filter(height, SIGMA_PX))
    return _flooded(np.squeeze(height), 1 if is_color(scene) else 8).reshape(scene.truth.shape)


def _flooded(height: np.ndarray, h: float) -> np.ndarray:
    full = np.ones((3,) * height.ndim, bool)
    markers = label(h_minima(height, h, full), connectivity=height.ndim)
    return np.asarray(watershed(height, markers, connectivity=height.ndim))


def supplied(scene: Scene) -> np.ndarray:
    assert scene.supplied is not None
    return scene.supplied.astype(np.int64)


# --- scikit-image's merging, as in its gallery ----------------------------------------------------


def color_threshold(labels: np.ndarray, scene: Scene, value: float) -> np.ndarray:
    rag = skgraph.rag_mean_color(colors(scene), labels, connectivity=labels.ndim)
    return np.asarray(skgraph.cut_threshold(labels, rag, value))


def border_threshold(labels: np.ndarray, scene: Scene, value: float) -> np.ndarray:
    rag = skgraph.rag_boundary(labels, borders(scene), connectivity=labels.ndim)
    return np.asarray(skgraph.cut_threshold(labels, rag, value))


def color_hierarchy(labels: np.ndarray, scene: Scene, value: float) -> np.ndarray:
    rag = skgraph.rag_mean_color(colors(scene), labels, connectivity=labels.ndim)

    def weigh(graph: Any, source: int, target: int, beside: int) -> Content:
        apart = graph.nodes[target]["mean color"] - graph.nodes[beside]["mean color"]
        return {"weight": float(np.linalg.norm(apart))}

    def merge(graph: Any, source: int, target: int) -> None:
        into, gone = graph.nodes[target], graph.nodes[source]
        into["total color"] = into["total color"] + gone["total color"]
        into["pixel count"] += gone["pixel count"]
        into["mean color"] = into["total color"] / into["pixel count"]

    return _hierarchy(labels, rag, value, merge, weigh)


def border_hierarchy(labels: np.ndarray, scene: Scene, value: float) -> np.ndarray:
    rag = skgraph.rag_boundary(labels, borders(scene), connectivity=labels.ndim)

    def weigh(graph: Any, source: int, target: int, beside: int) -> Content:
        none = {"weight": 0.0, "count": 0}
        a, b = graph[source].get(beside, none), graph[target].get(beside, none)
        count = a["count"] + b["count"]
        total = a["count"] * a["weight"] + b["count"] * b["weight"]
        return {"count": count, "weight": total / count}

    return _hierarchy(labels, rag, value, lambda *_: None, weigh)


def _hierarchy(
    labels: np.ndarray, rag: Any, value: float, merge: Callable[..., Any], weigh: Callable[..., Any]
) -> np.ndarray:
    merged = skgraph.merge_hierarchical(
        labels, rag, value, rag_copy=False, in_place_merge=True, merge_func=merge, weight_func=weigh
    )
    return np.asarray(merged)


def color_cut(labels: np.ndarray, scene: Scene, value: float) -> np.ndarray:
    # Its similarity is exp(-d^2 / sigma), ours exp(-d^2 / sigma^2).
    sigma = LAB_SIGMA if is_color(scene) else GREY_SIGMA
    rag = skgraph.rag_mean_color(
        colors(scene), labels, connectivity=labels.ndim, mode="similarity", sigma=sigma**2
    )
    return np.asarray(skgraph.cut_normalized(labels, rag, thresh=value, rng=0))


# --- What is compared ----------------------------------------------------------------------------

TISSUE: Content = {"source": {"channels": [0, 1, 2]}}
SMOOTH = [{"filter": "gaussian", "sigma_px": SIGMA_PX}]
BASINS: Content = {"method": "watershed", "masked": False}

TISSUE_SUPERPIXELS = (
    Superpixels(
        "SLIC",
        {**TISSUE, "segment": {"method": "slic", "color_space": "lab", "segments": 600}},
        library_slic,
        True,
    ),
    Superpixels(
        "basins of the gradient",
        {
            **TISSUE,
            "preprocess": SMOOTH,
            "segment": {**BASINS, "landscape": "gradient", "markers": {"from": "h_minima", "h": 1}},
        },
        library_basins,
        False,
    ),
)
LAB = {"color_space": "lab"}
TISSUE_WAYS = (
    Way("superpixels", {}, library=lambda labels, scene, value: labels),
    Way("threshold", {"by": "threshold", **LAB}, (3, 4, 6, 8, 11, 15), color_threshold),
    Way(
        "hierarchical, mean_color",
        {"by": "hierarchical", **LAB},
        (8, 11, 14, 18, 22, 27, 33),
        color_hierarchy,
    ),
    Way(
        "hierarchical, ward",
        {"by": "hierarchical", "weight": "ward", **LAB},
        (2000, 4000, 8000, 16000, 32000, 64000),
    ),
    Way(
        "hierarchical, boundary",
        {"by": "hierarchical", "weight": "boundary", **LAB},
        (8, 12, 17, 20, 23, 26, 30, 40),
        border_hierarchy,
    ),
    Way(
        "normalized_cut",
        {"by": "normalized_cut", "sigma": LAB_SIGMA, **LAB},
        (0.1, 0.3, 0.6, 0.9),
        color_cut,
        True,
    ),
)

VOLUME: Content = {"dims": "3d"}
VOLUME_SUPERPIXELS = (
    Superpixels(
        "supplied superpixels",
        {
            "source": {"channels": [0, 1], **VOLUME},
            "segment": {"method": "given", "file": "supplied.tif"},
        },
        supplied,
        True,
    ),
    Superpixels(
        "basins of the probability",
        {
            "source": {"channels": [1], **VOLUME},
            "preprocess": SMOOTH,
            "segment": {
                **BASINS,
                "landscape": "intensity",
                "foreground": {"objects": "dark"},
                "markers": {"from": "h_minima", "h": 8},
            },
        },
        library_basins,
        False,
    ),
)
STEPS = (120, 150, 170, 190, 205, 220, 235, 245, 252)
#: `boundary` is the last of the selected channels, see `scores.recipe_of`.
VOLUME_WAYS = (
    Way("superpixels", {}, library=lambda labels, scene, value: labels),
    Way("threshold, boundary", {"by": "threshold", "weight": "boundary"}, STEPS, border_threshold),
    Way(
        "hierarchical, boundary",
        {"by": "hierarchical", "weight": "boundary"},
        STEPS,
        border_hierarchy,
    ),
    Way(
        "hierarchical, mean_color",
        {"by": "hierarchical"},
        (2, 5, 10, 20, 30, 40),
        color_hierarchy,
    ),
    Way(
        "normalized_cut",
        {"by": "normalized_cut", "sigma": GREY_SIGMA},
        (0.1, 0.2, 0.4, 0.6, 0.9),
        color_cut,
        True,
    ),
)
