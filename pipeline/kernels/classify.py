"""The class of each pixel under a frozen model, one pixel after the other in a fixed order."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]


def nearest_centre(
    features: NDArray[Any], shift: Floats, scale: Floats, centres: Floats
) -> NDArray[np.uint8]:
    """Number of the nearest centre.

    Parameters
    ----------
    features : ndarray of shape (C, ...), real
    shift, scale : ndarray of shape (C,), float64
        Features are compared as ``(x - shift) / scale``.
    centres : ndarray of shape (K, C), float64

    Returns
    -------
    ndarray of shape (...), uint8
        1..K, the first of equally near ones; 0 if there is no centre.
    """
    out = np.zeros(features.shape[1:], np.uint8)
    flat = np.require(features, None, ["C", "W"]).reshape(features.shape[0], -1)
    _nearest(flat, shift, scale, centres, out.reshape(-1))
    return out


@njit(cache=True, nogil=True)
def _nearest(
    features: NDArray[Any], shift: Floats, scale: Floats, centres: Floats, out: NDArray[np.uint8]
) -> None:
    count, channels = centres.shape
    value = np.empty(channels)
    for i in range(features.shape[1]):
        for c in range(channels):
            value[c] = (np.float64(features[c, i]) - shift[c]) / scale[c]
        best, nearest = 0, np.inf
        for k in range(count):
            distance = 0.0
            for c in range(channels):
                apart = value[c] - centres[k, c]
                distance += apart * apart
            if distance < nearest:
                best, nearest = k + 1, distance
        out[i] = best


def most_likely(
    features: NDArray[Any], means: Floats, precisions: Floats, constants: Floats
) -> NDArray[np.uint8]:
    """Number of the most likely normal distribution.

    Parameters
    ----------
    features : ndarray of shape (C, ...), real
    means : ndarray of shape (K, C), float64
    precisions : ndarray of shape (K, C, C), float64
        Upper triangular factors P of the inverse covariances P P^T.
    constants : ndarray of shape (K,), float64
        Logarithm of weight and normalisation.

    Returns
    -------
    ndarray of shape (...), uint8
        1..K, the first of equally likely ones; 0 if there is none.
    """
    out = np.zeros(features.shape[1:], np.uint8)
    flat = np.require(features, None, ["C", "W"]).reshape(features.shape[0], -1)
    _likely(flat, means, precisions, constants, out.reshape(-1))
    return out


@njit(cache=True, nogil=True)
def _likely(
    features: NDArray[Any],
    means: Floats,
    precisions: Floats,
    constants: Floats,
    out: NDArray[np.uint8],
) -> None:
    apart = np.empty(means.shape[1])
    for i in range(features.shape[1]):
        best, highest = 0, -np.inf
        for k in range(means.shape[0]):
            score = _score(features, means, precisions, constants, i, k, apart)
            if score > highest:
                best, highest = k + 1, score
        out[i] = best


def log_likelihoods(
    features: NDArray[Any], means: Floats, precisions: Floats, constants: Floats
) -> Floats:
    """Logarithm of the density of each normal distribution times its weight.

    Parameters are those of `most_likely`, which compares the same numbers.

    Returns
    -------
    ndarray of shape (K, ...), float64
    """
    out = np.empty((len(means), *features.shape[1:]))
    flat = np.require(features, None, ["C", "W"]).reshape(features.shape[0], -1)
    _scores(flat, means, precisions, constants, out.reshape(len(means), flat.shape[1]))
    return out


@njit(cache=True, nogil=True)
def _scores(
    features: NDArray[Any], means: Floats, precisions: Floats, constants: Floats, out: Floats
) -> None:
    apart = np.empty(means.shape[1])
    for i in range(features.shape[1]):
        for k in range(means.shape[0]):
            out[k, i] = _score(features, means, precisions, constants, i, k, apart)


@njit(cache=True, nogil=True, inline="always")
def _score(
    features: NDArray[Any],
    means: Floats,
    precisions: Floats,
    constants: Floats,
    i: int,
    k: int,
    apart: Floats,
) -> float:
    """Logarithm of density and weight of distribution k at pixel i; `apart` is room for work."""
    for c in range(apart.size):
        apart[c] = np.float64(features[c, i]) - means[k, c]
    square = 0.0
    for d in range(apart.size):
        y = 0.0
        for c in range(d + 1):
            y += apart[c] * precisions[k, c, d]
        square += y * y
    score: float = constants[k] - 0.5 * square
    return score
