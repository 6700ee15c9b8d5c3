"""How well regions agree with an annotation.

References
----------
Arganda-Carreras et al., Crowdsourcing the creation of image segmentation algorithms for
connectomics, 2015, doi:10.3389/fnana.2015.00142
Meila, Comparing clusterings, 2007, doi:10.1016/j.jmva.2006.11.013
Martin, Fowlkes, Malik, Learning to detect natural image boundaries, 2004,
doi:10.1109/TPAMI.2004.1273918
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
from scipy import ndimage
from skimage.metrics import adapted_rand_error, variation_of_information
from skimage.segmentation import find_boundaries

#: How far apart, in px, a border and the annotated one may lie.
TOLERANCE_PX = 2


@dataclass(frozen=True, slots=True)
class Scores:
    """Of one image, or means of several.

    Parameters
    ----------
    split, merge : float
        Variation of information in bits: the entropy of regions given objects (objects that were
        split) and of objects given regions (objects that were merged).
    rand_error : float
        Adapted Rand error: 1 - F1 of pairs of pixels.
    boundary_f1 : float
        Of border pixels.
    """

    split: float
    merge: float
    rand_error: float
    boundary_f1: float

    @property
    def variation(self) -> float:
        """Both parts of the variation of information."""
        return self.split + self.merge


def score(labels: np.ndarray, truth: np.ndarray) -> Scores:
    """Compare a partition with annotated objects.

    Pixels without an object (0 in `truth`) count in no score but the last: there they count up to
    `TOLERANCE_PX` away from an object. So what regions do far from every object is not judged.

    Parameters
    ----------
    labels, truth : ndarray of shape (Z, Y, X), int
    """
    labels, truth = labels.astype(np.int64), truth.astype(np.int64)
    error, _, _ = adapted_rand_error(truth, labels, ignore_labels=(0,))
    split, merge = variation_of_information(truth, labels, ignore_labels=(0,))
    return Scores(float(split), float(merge), float(error), boundary_f1(labels, truth))


def boundary_f1(labels: np.ndarray, truth: np.ndarray, tolerance_px: float = TOLERANCE_PX) -> float:
    """F1 of border pixels.

    A found one is right if an annotated one is at most `tolerance_px` away (Euclidean), and an
    annotated one is found likewise. Borders are the pixels on both sides of a change of label;
    where two objects are parted by unlabelled pixels, these are on the border too.
    """
    labels, truth = np.squeeze(labels), np.squeeze(truth)  # distances in one plane
    judged = _distance(truth > 0) <= tolerance_px
    wanted = find_boundaries(truth, mode="thick") & judged
    found = find_boundaries(labels, mode="thick") & judged
    if not wanted.any() or not found.any():
        return float(wanted.any() == found.any())
    precision = (_distance(wanted)[found] <= tolerance_px).mean()
    recall = (_distance(found)[wanted] <= tolerance_px).mean()
    return float(2 * precision * recall / max(precision + recall, 1e-12))


def mean_scores(scores: Sequence[Scores]) -> Scores:
    """Mean of every score over images."""
    return Scores(*(float(v) for v in np.mean([astuple(one) for one in scores], axis=0)))


def _distance(to: np.ndarray) -> np.ndarray:
    if not to.any():
        return np.full(to.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(~to))
