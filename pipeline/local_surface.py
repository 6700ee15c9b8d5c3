"""Surfaces that a local threshold compares each pixel with.

Whole numbers of up to 16 bits are summed exactly; other values are added one by one in a fixed
order. So a value does not depend on where the window lies, as it does with the running float sums
and integral images of the libraries.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.kernels.window_sums import window_sums

SurfaceRule = Literal["gaussian", "mean", "median", "niblack", "sauvola"]

#: How pixels repeat behind the frame: as scikit-image has it for each rule.
_BORDER: dict[SurfaceRule, Literal["symmetric", "reflect"]] = {
    "mean": "symmetric",
    "niblack": "reflect",
    "sauvola": "reflect",
}


def reach_px(rule: SurfaceRule, block_px: int) -> int:
    """How far away pixels change a value of the surface."""
    return int(4.0 * _sigma(block_px) + 0.5) if rule == "gaussian" else block_px // 2


def surface(
    image: NDArray[Any], rule: SurfaceRule, block_px: int, k: float, r: float
) -> NDArray[np.floating[Any]]:
    """The surface of `skimage.filters.threshold_local` and its kin, before any offset.

    Parameters
    ----------
    image : ndarray of shape (Y, X) or (Z, Y, X), real
        A window; values within `reach_px` of its inner borders are not right.
    rule : str
        "gaussian", "mean", "median" of the block; "niblack": mean - k * std; "sauvola":
        mean * (1 + k * (std / r - 1)).
    block_px : int
        Side of the block, odd.
    k, r : float
        For "niblack" and "sauvola".

    Returns
    -------
    ndarray of the same shape, float64 (float32 for float32 and the rules gaussian and median)

    References
    ----------
    Niblack, An introduction to digital image processing, 1986.
    Sauvola, Pietikainen, Adaptive document image binarization, 2000,
    doi:10.1016/S0031-3203(99)00055-2
    """
    found: NDArray[np.floating[Any]]
    floating = image.dtype if image.dtype.kind == "f" else np.dtype(np.float64)
    if rule == "gaussian":
        found = ndimage.gaussian_filter(image.astype(floating), _sigma(block_px), mode="reflect")
        return found
    if rule == "median":
        return ndimage.median_filter(image, block_px, mode="reflect").astype(floating)
    half = block_px // 2
    padded = np.pad(image, half, mode=_BORDER[rule])
    size = block_px**image.ndim
    mean = _sums(padded, block_px) / size
    if rule == "mean":
        found = mean
        return found
    wide = padded.astype(np.int64 if _is_small(padded) else np.float64)
    spread: NDArray[np.floating[Any]] = np.sqrt(
        np.clip(_sums(wide * wide, block_px) / size - mean * mean, 0, None)
    )
    found = mean - k * spread if rule == "niblack" else mean * (1 + k * (spread / r - 1))
    return found


def _sigma(block_px: int) -> float:
    return (block_px - 1) / 6.0


def _is_small(values: NDArray[Any]) -> bool:
    return values.dtype.kind in "iu" and (values.dtype.itemsize <= 2 or values.dtype == np.int64)


def _sums(padded: NDArray[Any], side: int) -> NDArray[Any]:
    """Sums over the windows that lie inside."""
    if _is_small(padded):
        return window_sums(padded, side)
    summed = padded.astype(np.float64)
    ones = np.ones(side)
    for axis in range(padded.ndim):
        summed = ndimage.correlate1d(summed, ones, axis, mode="nearest")
    half = side // 2
    return summed[tuple(slice(half, n - half) for n in summed.shape)]
