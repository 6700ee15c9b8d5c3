"""The interval of grey values that a seed's region may have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.methods.base import State
from pipeline.seed_rounds import CENTRE

Longs = NDArray[np.int64]
Floats = NDArray[np.float64]

#: Lowest and highest value of each seed's region, and which seeds are grown in this pass.
BOUNDS = "growing.bounds"
OPEN = "growing.open"


@dataclass(frozen=True, slots=True)
class Intervals:
    """Intervals of one pass; seeds of equal values share one.

    Parameters
    ----------
    of_seed : ndarray of shape (n, 2), float64
        Lowest and highest value, both included; NaN for seeds that are not grown.
    number : ndarray of shape (n,), int64
        Of each seed's interval, from 0; -1 for seeds that are not grown.
    bounds : ndarray of shape (k, 2), float64
        Lowest and highest value of each interval.
    """

    of_seed: Floats
    number: Longs
    bounds: Floats

    @classmethod
    def of(cls, state: State, tolerance: float) -> Intervals:
        of_seed = bounds_of_seeds(state, tolerance)
        known = np.isfinite(of_seed).all(axis=1)
        if OPEN in state:
            known &= state[OPEN].astype(np.bool_)
        of_seed[~known] = np.nan
        number = np.full(len(of_seed), -1, np.int64)
        bounds, place = np.unique(of_seed[known], axis=0, return_inverse=True)
        number[known] = place.reshape(-1)
        return cls(of_seed, number, bounds)


def bounds_of_seeds(state: State, tolerance: float) -> Floats:
    """Intervals of all seeds, shape (n, 2): around their own values before any region is known."""
    if BOUNDS in state:
        return state[BOUNDS].astype(np.float64)
    centre = state[CENTRE].astype(np.float64)
    return np.stack([centre - tolerance, centre + tolerance], axis=1)
