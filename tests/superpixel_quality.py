"""How well superpixels keep to the objects of an annotation.

References
----------
Neubert, Protzel, Superpixel benchmark and comparison, Forum Bildverarbeitung 2012
Liu et al., Entropy rate superpixel segmentation, 2011, doi:10.1109/CVPR.2011.5995323
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage, sparse
from skimage.segmentation import find_boundaries


def boundary_recall(labels: np.ndarray, truth: np.ndarray, tolerance_px: int = 2) -> float:
    """Share of the annotation's border pixels with a border of superpixels near them.

    Near means at most `tolerance_px` away on every axis.
    """
    wanted = find_boundaries(truth, mode="inner", connectivity=1)
    found = find_boundaries(labels, mode="thick", connectivity=1)
    near = ndimage.maximum_filter(found, 2 * tolerance_px + 1)
    return float(near[wanted].mean())


def undersegmentation_error(labels: np.ndarray, truth: np.ndarray) -> float:
    """Pixels by which superpixels leak out of objects, as a share of all.

    A superpixel that meets an object counts with its part inside or outside, the smaller one.
    """
    common = _contingency(labels, truth)
    size = np.asarray(common.sum(axis=1)).ravel()[common.tocoo().row]
    inside = common.tocoo().data
    return float(np.minimum(inside, size - inside).sum() / truth.size)


def achievable_accuracy(labels: np.ndarray, truth: np.ndarray) -> float:
    """Share of pixels that are right if every superpixel goes to the object it shares most with."""
    return float(_contingency(labels, truth).max(axis=1).sum() / truth.size)


def _contingency(labels: np.ndarray, truth: np.ndarray) -> sparse.csr_matrix:
    rows, columns = labels.ravel().astype(np.int64), truth.ravel().astype(np.int64)
    return sparse.coo_matrix((np.ones(rows.size, np.int64), (rows, columns))).tocsr()
