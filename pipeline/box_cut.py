"""GrabCut of one box, by OpenCV, with a rule for every crop that it does not take."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]

#: What `cv2.grabCut` takes at its busiest for a pixel: the graph's nodes, edges and weights,
#: colours of floats. Measured 182 to 197 on OpenCV 5.0.
CUT_BYTES_PER_PX = 200


def cut(image: NDArray[np.uint8], marks: Mask, iterations: int, seed: int) -> NDArray[np.bool_]:
    """Cut an object out of its surroundings.

    Where `marks` leave no pixel to learn the background from, all that may be foreground is;
    where they leave none for the foreground, nothing is. An image of one colour holds nothing but
    what is marked as foreground.

    Parameters
    ----------
    image : ndarray of shape (Y, X, 3), uint8
    marks : ndarray of shape (Y, X), uint8
        cv2.GC_BGD and cv2.GC_FGD are certain, cv2.GC_PR_BGD and cv2.GC_PR_FGD a first guess.
        Overwritten.
    iterations : int
        Rounds of learning the colours and cutting.
    seed : int
        Of the first clustering of the colours.

    Returns
    -------
    ndarray of shape (Y, X), bool
        The foreground.

    References
    ----------
    Rother, Kolmogorov, Blake, GrabCut, 2004, doi:10.1145/1015706.1015720
    """
    may_be = _is_foreground(marks)
    if may_be.all() or not may_be.any():
        return may_be
    if (image == image[0, 0]).all():
        return np.asarray(marks == cv2.GC_FGD)
    # OpenCV has one generator a thread; nothing but the clustering draws from it.
    cv2.setRNGSeed(seed)
    models = np.zeros((2, 1, 65))
    cv2.grabCut(image, marks, None, models[0], models[1], iterations, cv2.GC_INIT_WITH_MASK)
    return _is_foreground(marks)


def cut_box(
    image: NDArray[np.uint8],
    box: tuple[slice, ...],
    lines: Iterable[NDArray[np.intp]],
    iterations: int,
    seed: int,
    valid: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Cut an object out of a box, whose surroundings are background.

    Parameters
    ----------
    image : ndarray of shape (Y, X, 3), uint8
        The box and what is around it.
    box : tuple of slice
        Where it lies in the image.
    lines : two ndarrays of shape (2, k)
        (y, x) in the box of what is certain: foreground, then background.
    iterations, seed : int
        As for `cut`.
    valid : ndarray of shape (Y, X), bool, optional
        Other pixels are background.

    Returns
    -------
    ndarray of the box's shape, bool
    """
    marks = np.full(image.shape[:2], cv2.GC_BGD, np.uint8)
    inside = marks[box]
    inside[...] = cv2.GC_PR_FGD
    for kind, (y, x) in zip((cv2.GC_FGD, cv2.GC_BGD), lines, strict=True):
        inside[y, x] = kind
    if valid is not None:
        marks[~valid] = cv2.GC_BGD
    return cut(image, marks, iterations, seed)[box]


def _is_foreground(marks: Mask) -> NDArray[np.bool_]:
    return np.asarray(marks & 1, bool)  # GC_FGD and GC_PR_FGD
