"""How many pixels could belong to another class if the network's numbers were a little off.

Pixels are counted by the distance of their two best scores, in whole numbers, so that the number
below any epsilon can be told once epsilon is known.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels.margins import count_near

#: Distances that are counted up to: four a decade.
LIMITS = 10.0 ** np.linspace(-8, 0, 33)


def count_margins(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """How many pixels have a margin of at most each of `LIMITS`.

    Parameters
    ----------
    scores : ndarray of shape (K, \\*S), float32
        Of every class.

    Returns
    -------
    ndarray of shape (33,), int64
    """
    if len(scores) < 2:
        return np.zeros(len(LIMITS), np.int64)
    return count_near(scores, LIMITS)


def uncertain_pixels(counts: NDArray[np.int64], epsilon: float, pixels: int) -> int:
    """At most how many of all `pixels` have a margin of 2 `epsilon` or less."""
    if epsilon == 0:
        return 0
    place = int(np.searchsorted(LIMITS, 2 * epsilon))  # NaN is behind all
    return int(counts[place]) if place < len(counts) else pixels
