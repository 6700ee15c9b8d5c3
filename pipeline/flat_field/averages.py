"""The shading of a set of pictures as their median, smoothed: simple, and near for many pictures.

Where objects are often on the same side, or cover much, it takes them for light; `basic` does not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float64]

#: Width of the smoothing, as a part of the frame.
SMOOTHED = 1 / 16


def median_profile(pictures: Floats) -> Floats:
    """Median over pictures (N, Y, X) of equal mean at every place, smoothed; its mean is 1."""
    levels = pictures.mean(axis=(1, 2))[:, None, None]
    middle = np.median(pictures / levels, axis=0)
    sigma = [SMOOTHED * n for n in middle.shape]
    smooth = ndimage.gaussian_filter(middle, sigma, mode="nearest")
    flat: Floats = smooth / smooth.mean()
    return flat
