"""CIE L*a*b* from sRGB, pixel by pixel.

`skimage.color.rgb2lab` multiplies whole images with a matrix in BLAS, where the last bits of a
pixel depend on its place in the array; here they depend on its three values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

#: Linear sRGB to XYZ, rows divided by the white point D65 (2 degrees), as in scikit-image.
_XYZ = np.array(
    [
        [0.412453, 0.357580, 0.180423],
        [0.212671, 0.715160, 0.072169],
        [0.019334, 0.119193, 0.950227],
    ]
) / np.array([[0.95047], [1.0], [1.08883]])


def lab(rgb: NDArray[Any], white: float) -> NDArray[np.float64]:
    """Convert red, green and blue.

    Parameters
    ----------
    rgb : ndarray of shape (3, ...), real
    white : float
        The value of full light: 255 for uint8, 1 for floats.

    Returns
    -------
    ndarray of the same shape, float64
        L* of 0..100, a* and b*.

    References
    ----------
    CIE 15:2004, Colorimetry; IEC 61966-2-1:1999 (sRGB).
    """
    out = np.empty(rgb.shape, np.float64)
    flat = np.require(rgb, None, ["C", "W"]).reshape(3, -1)
    _lab(flat, 1.0 / white, _XYZ, out.reshape(3, -1))
    return out


@njit(cache=True, nogil=True)
def _lab(
    rgb: NDArray[Any], per_white: float, xyz: NDArray[np.float64], out: NDArray[np.float64]
) -> None:
    linear = np.empty(3)
    f = np.empty(3)
    for i in range(rgb.shape[1]):
        for c in range(3):
            v = np.float64(rgb[c, i]) * per_white
            linear[c] = ((v + 0.055) / 1.055) ** 2.4 if v > 0.04045 else v / 12.92
        for c in range(3):
            t = xyz[c, 0] * linear[0] + xyz[c, 1] * linear[1] + xyz[c, 2] * linear[2]
            f[c] = np.cbrt(t) if t > 0.008856 else 7.787 * t + 16.0 / 116.0
        out[0, i] = 116.0 * f[1] - 16.0
        out[1, i] = 500.0 * (f[0] - f[1])
        out[2, i] = 200.0 * (f[1] - f[2])
