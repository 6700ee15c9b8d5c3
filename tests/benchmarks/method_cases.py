"""What `methods.py` compares: parameters of a method, and what the library's user would call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from scipy import ndimage
from skimage import feature, filters, measure, morphology, segmentation
from sklearn import cluster, mixture

Image = np.ndarray

#: Seeds of region growing and boxes of grabcut: so many along each side of the image.
PLACES = 12
BOX_PX = 48


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Parameters
    ----------
    library : str
    segment : dict
        The recipe's section; "{folder}" in a file's name is where the companions lie.
    call : callable
        Takes the image, (Y, X) or (Y, X, 3), and returns labels, classes or None.
    colors : bool
        Whether it is the picture of stained tissue.
    """

    library: str
    segment: dict[str, Any]
    call: Callable[[Image], Any]
    colors: bool = False


def objects(mask: Image) -> Image:
    return ndimage.label(mask, np.ones((3, 3)))[0]


def sample(image: Image, size: int) -> Image:
    rows = image.reshape(-1, image.shape[2] if image.ndim == 3 else 1)
    return rows[:: max(1, len(rows) // size)].astype(float)


def rows(image: Image) -> Image:
    return image.reshape(-1, image.shape[2] if image.ndim == 3 else 1)


def kmeans(image: Image) -> Image:
    model = cluster.KMeans(3, n_init=4, random_state=0).fit(sample(image, 100_000))
    return model.predict(rows(image)).reshape(image.shape[:2])


def gmm(image: Image) -> Image:
    model = mixture.GaussianMixture(3, random_state=0).fit(sample(image, 50_000))
    return model.predict(rows(image)).reshape(image.shape[:2])


def gmm_probabilities(image: Image) -> Image:
    model = mixture.GaussianMixture(3, random_state=0).fit(sample(image, 50_000))
    return model.predict_proba(rows(image)).astype(np.float32)


def mean_shift(image: Image) -> Image:
    model = cluster.MeanShift(bandwidth=30, bin_seeding=True).fit(sample(image, 10_000))
    return model.predict(rows(image)).reshape(image.shape[:2])


def mean_shift_joint(image: Image) -> Image:
    return cv2.pyrMeanShiftFiltering(image, 6, 20, maxLevel=0)


def split(image: Image) -> Image:
    mask = image > filters.threshold_otsu(image)
    height = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), 1)
    peaks = feature.peak_local_max(height, min_distance=5, labels=objects(mask))
    markers = np.zeros(image.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return segmentation.watershed(-height, markers, mask=mask, connectivity=2)


def split_by_h_minima(image: Image) -> Image:
    mask = image > filters.threshold_otsu(image)
    height = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), 1)
    deep = morphology.h_maxima(height, 1.0)
    markers = measure.label(deep, connectivity=2)
    return segmentation.watershed(-height, markers, mask=mask, connectivity=2)


def split_on_gradient(image: Image) -> Image:
    smooth = ndimage.gaussian_filter(image.astype(np.float32), 2)
    steep = filters.sobel(smooth)
    markers = measure.label(morphology.h_minima(steep, 1.0), connectivity=2)
    return segmentation.watershed(steep, markers, connectivity=2)


def places(image: Image) -> list[tuple[int, int]]:
    """Brightest pixels of boxes on a regular grid."""
    found = []
    step = image.shape[0] // PLACES
    for y in range(step // 4, image.shape[0] - BOX_PX, step):
        for x in range(step // 4, image.shape[1] - BOX_PX, step):
            part = image[y : y + BOX_PX, x : x + BOX_PX]
            row, column = np.unravel_index(int(part.argmax()), part.shape)
            found.append((y + int(row), x + int(column)))
    return found


def grow(image: Image) -> Image:
    found = np.zeros(image.shape, np.int32)
    for k, seed in reversed(list(enumerate(places(image)))):
        found[segmentation.flood(image, seed, tolerance=15)] = k + 1
    return found


def cut(image: Image) -> Image:
    found = np.zeros(image.shape, np.int32)
    for k, (y, x) in reversed(list(enumerate(places(image)))):
        top, left = max(0, y - BOX_PX), max(0, x - BOX_PX)
        crop = np.repeat(image[top : y + BOX_PX, left : x + BOX_PX, None], 3, axis=2)
        box = (8, 8, crop.shape[1] - 16, crop.shape[0] - 16)
        mask = np.zeros(crop.shape[:2], np.uint8)
        models = np.zeros((2, 1, 65))
        cv2.grabCut(crop, mask, box, models[0], models[1], 5, cv2.GC_INIT_WITH_RECT)
        region = found[top : y + BOX_PX, left : x + BOX_PX]
        region[(mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)] = k + 1
    return found


CASES: dict[str, Case] = {
    "threshold otsu": Case(
        "scikit-image, scipy",
        {"method": "threshold"},
        lambda image: objects(image > filters.threshold_otsu(image)),
    ),
    "threshold li": Case(
        "scikit-image, scipy",
        {"method": "threshold", "foreground": {"value": "li"}},
        lambda image: objects(image > filters.threshold_li(image)),
    ),
    "local_threshold gaussian": Case(
        "scikit-image, scipy",
        {"method": "local_threshold", "block_px": 51},
        lambda image: objects(image > filters.threshold_local(image, 51)),
    ),
    "local_threshold sauvola": Case(
        "scikit-image, scipy",
        {"method": "local_threshold", "rule": "sauvola", "block_px": 51},
        lambda image: objects(image > filters.threshold_sauvola(image, 51)),
    ),
    "hysteresis": Case(
        "scikit-image, scipy",
        {"method": "hysteresis", "weak": 10, "strong": 30},
        lambda image: objects(filters.apply_hysteresis_threshold(image, 10, 30)),
    ),
    "kmeans": Case("scikit-learn", {"method": "kmeans", "k": 3}, kmeans),
    "kmeans, colours": Case("scikit-learn", {"method": "kmeans", "k": 3}, kmeans, colors=True),
    "gmm": Case("scikit-learn", {"method": "gmm", "k": 3}, gmm),
    "gmm probabilities": Case(
        "scikit-learn", {"method": "gmm", "k": 3, "output": "probabilities"}, gmm_probabilities
    ),
    "mean_shift": Case("scikit-learn", {"method": "mean_shift", "bandwidth": 30}, mean_shift),
    "mean_shift, place and colour": Case(
        "OpenCV",
        {"method": "mean_shift", "bandwidth": 20, "spatial_px": 6, "output": "labels"},
        mean_shift_joint,
        colors=True,
    ),
    "slic": Case(
        "scikit-image",
        {"method": "slic", "segments": 40_000, "iterations": 5},
        lambda image: segmentation.slic(
            image, 40_000, compactness=0.1, max_num_iter=5, channel_axis=None
        ),
    ),
    "slic, colours": Case(
        "scikit-image",
        {"method": "slic", "segments": 10_000, "iterations": 5, "color_space": "lab"},
        lambda image: segmentation.slic(image, 10_000, compactness=10, max_num_iter=5),
        colors=True,
    ),
    "watershed": Case("scikit-image, scipy", {"method": "watershed"}, split),
    "watershed, h-minima": Case(
        "scikit-image, scipy",
        {"method": "watershed", "markers": {"from": "h_minima", "h": 1}},
        split_by_h_minima,
    ),
    "watershed of the gradient": Case(
        "scikit-image, scipy",
        {
            "method": "watershed",
            "landscape": "gradient",
            "masked": False,
            "markers": {"from": "h_minima", "h": 1},
        },
        split_on_gradient,
    ),
    "region_growing": Case(
        "scikit-image",
        {
            "method": "region_growing",
            "seeds": {"from": "points", "file": "{folder}/seeds.csv"},
            "tolerance": 15,
        },
        grow,
    ),
    "grabcut": Case(
        "OpenCV",
        {"method": "grabcut", "boxes": {"file": "{folder}/boxes.csv"}},
        cut,
    ),
}
