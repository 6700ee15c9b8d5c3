"""Probabilities of classes from their scores, and a Potts prior on them.

A score is the logarithm of what the probability is proportional to. Every pixel is worked on by
itself, with sums over classes and neighbours in a fixed order, so that its bits do not depend on
the window.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Classes: TypeAlias = NDArray[np.uint8]
Mask: TypeAlias = NDArray[np.bool_]


def normalise(scores: Floats, valid: Mask | None) -> Classes:
    """Turn scores into probabilities: ``exp(s) / sum(exp(s))`` over the classes.

    Parameters
    ----------
    scores : ndarray of shape (K, ...), float64, C-contiguous
        Overwritten by the probabilities; a score of -inf or NaN has none.
    valid : ndarray of shape (...), bool, or None
        Where the image has a value; None: everywhere. Elsewhere all probabilities are 0.

    Returns
    -------
    ndarray of shape (...), uint8
        1..K, the first class of largest score; 0 where there is none.
    """
    shape = scores.shape[1:]
    out = np.zeros(shape, np.uint8)
    # Sizes are given: -1 cannot be told where there is no class or no pixel.
    flat = scores.reshape(len(scores), out.size)
    _normalise_all(flat, _mask(valid, shape).reshape(-1), out.reshape(-1))
    return out


def mean_field(
    scores: Floats, valid: Mask | None, start: tuple[int, ...], weight: float, iterations: int
) -> tuple[Floats, Classes]:
    """Probabilities under a Potts prior, by mean-field inference.

    Neighbours share a face. The probabilities q of a pixel p are made proportional to
    ``exp(s_p(k) + weight * sum of q_r(k) over the neighbours r)``: first those of pixels whose
    coordinates have an even sum, then those of the others. Pixels of one kind are no neighbours of
    each other, so every turn minimises the free energy over them, and nothing swings to and fro. An
    iteration reaches 2 px farther.

    Parameters
    ----------
    scores : ndarray of shape (K, Y, X) or (K, Z, Y, X), float64
    valid : ndarray of shape (Y, X) or (Z, Y, X), bool, or None
        Pixels that take part; None: all.
    start : tuple of int
        Coordinates of the first pixel within the frame.
    weight : float
        What an equal neighbour adds to a score; 0 gives what `normalise` gives.
    iterations : int

    Returns
    -------
    probabilities : ndarray of the shape of `scores`, float64
    classes : ndarray of the shape without K, uint8
        See `normalise`.

    References
    ----------
    Zhang, The mean field theory in EM procedures for Markov random fields, IEEE Transactions on
    Signal Processing 40, 1992, pp. 2570-2583
    Geman, Geman, Stochastic relaxation, Gibbs distributions, and the Bayesian restoration of
    images, 1984, doi:10.1109/TPAMI.1984.4767596
    """
    count, *shape = scores.shape
    probabilities = scores.copy()
    classes = normalise(probabilities, valid)
    volume = (1, *shape)[-3:]
    sweep = (
        scores.reshape(count, *volume),
        _mask(valid, tuple(shape)).reshape(volume),
        probabilities.reshape(count, *volume),
        classes.reshape(volume),
        weight,
    )
    for turn in range(2 * iterations):
        _sweep(*sweep, (turn + sum(start)) % 2)
    return probabilities, classes


def _mask(valid: Mask | None, shape: tuple[int, ...]) -> Mask:
    return np.ones(shape, np.bool_) if valid is None else np.require(valid, None, ["C", "W"])


@njit(cache=True, nogil=True)
def _normalise(values: Floats) -> int:
    """Make probabilities of the scores of one pixel; gives the first class of largest score."""
    best, highest = 0, -np.inf
    for k in range(values.size):
        if values[k] > highest:
            best, highest = k + 1, values[k]
    total = 0.0
    for k in range(values.size):
        # Counted from the highest score, nothing overflows. NaN is not above anything.
        values[k] = math.exp(values[k] - highest) if values[k] > -np.inf else 0.0
        total += values[k]
    if best:
        for k in range(values.size):
            values[k] /= total
    return best


@njit(cache=True, nogil=True)
def _normalise_all(scores: Floats, valid: Mask, out: Classes) -> None:
    values = np.empty(scores.shape[0])
    for i in range(out.size):
        if not valid[i]:
            scores[:, i] = 0.0
            continue
        for k in range(values.size):
            values[k] = scores[k, i]
        out[i] = _normalise(values)
        for k in range(values.size):
            scores[k, i] = values[k]


@njit(cache=True, nogil=True)
def _sweep(
    scores: Floats, valid: Mask, probabilities: Floats, classes: Classes, weight: float, parity: int
) -> None:
    """Set the probabilities of the pixels whose z + y + x in the window has a parity."""
    count, depth, height, width = scores.shape
    values = np.empty(count)
    for z in range(depth):
        for y in range(height):
            for x in range((parity + z + y) % 2, width, 2):
                if not valid[z, y, x]:
                    continue
                for k in range(count):
                    near = 0.0
                    if z > 0:
                        near += probabilities[k, z - 1, y, x]
                    if y > 0:
                        near += probabilities[k, z, y - 1, x]
                    if x > 0:
                        near += probabilities[k, z, y, x - 1]
                    if x + 1 < width:
                        near += probabilities[k, z, y, x + 1]
                    if y + 1 < height:
                        near += probabilities[k, z, y + 1, x]
                    if z + 1 < depth:
                        near += probabilities[k, z + 1, y, x]
                    values[k] = scores[k, z, y, x] + weight * near
                classes[z, y, x] = _normalise(values)
                for k in range(count):
                    probabilities[k, z, y, x] = values[k]
