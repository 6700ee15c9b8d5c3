"""The weight map of the U-Net paper: more weight where objects lie near each other."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.training.object_boxes import object_boxes

#: Beyond so many sigma a weight is less than w0 / 2900, and is left at 0.
REACH_SIGMAS = 4.0


def border_weights(objects: NDArray[np.integer], w0: float, sigma_px: float) -> NDArray[np.float32]:
    """w0 exp(-(d1 + d2)^2 / (2 sigma^2)),  d1, d2 the distances to the two nearest objects.

    The paper's map is this one and the weight of the pixel's class, see `cross_entropy`. A pixel of
    an object has d1 = 0, so that objects that touch get weights, too.

    Parameters
    ----------
    objects : ndarray of shape (\\*S), int
        0 is background.
    w0, sigma_px : float
        10 and 5 px in the paper.

    Returns
    -------
    ndarray of shape (\\*S), float32
        0 where fewer than two objects lie within 4 sigma.

    References
    ----------
    Ronneberger, Fischer, Brox, U-Net, MICCAI 2015, doi:10.1007/978-3-319-24574-4_28: equation 2
    """
    reach = math.ceil(REACH_SIGMAS * sigma_px)
    nearest = np.full(objects.shape, np.inf, np.float32)
    second = nearest.copy()
    for number, box in object_boxes(objects):
        near = tuple(slice(max(0, s.start - reach), s.stop + reach) for s in box)
        away = ndimage.distance_transform_edt(objects[near] != number).astype(np.float32)
        second[near] = np.minimum(second[near], np.maximum(nearest[near], away))
        nearest[near] = np.minimum(nearest[near], away)
    together = nearest + second
    bell = np.exp(-(together**2) / np.float32(2 * sigma_px**2))
    return np.where(together <= reach, np.float32(w0) * bell, np.float32(0))
