"""How steep an image is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels.sobel import add_squared_slopes


def gradient_magnitude(image: NDArray[Any]) -> NDArray[np.float32]:
    """Length of the Sobel gradient.

    Parameters
    ----------
    image : ndarray of shape (C, Y, X) or (C, Z, Y, X), real
        Several channels add up as one vector. Outside, the nearest pixel is repeated; the results
        of the outermost pixels of a window are right only at the frame's border.

    Returns
    -------
    ndarray of shape (Y, X) or (Z, Y, X), float32
        That of `skimage.filters.sobel` of one channel. Squares of whole numbers of up to 16 bits
        are summed exactly.

    References
    ----------
    Sobel, Feldman, An isotropic 3x3 image gradient operator, 1968, doi:10.13140/RG.2.1.1912.4965
    """
    ndim = image.ndim - 1
    square = np.zeros(image.shape[1:], np.float64)
    for channel in image:
        add_squared_slopes(channel, square)
    # scikit-image divides the smoothing across by 4 an axis, and takes the mean square.
    square /= 16.0 ** (ndim - 1) * ndim
    return np.sqrt(square, out=square).astype(np.float32)
