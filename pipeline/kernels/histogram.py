"""Histograms by exact counting."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def _whole_numbers(values: NDArray[np.generic], offset: int, counts: NDArray[np.int64]) -> None:
    for value in values:
        counts[np.int64(value) - offset] += 1


@njit(cache=True, nogil=True)
def _bins(
    values: NDArray[np.generic], low: float, per_unit: float, counts: NDArray[np.int64]
) -> None:
    last = len(counts) - 1
    for value in values:
        k = int(np.floor((np.float64(value) - low) * per_unit))
        if k < 0:
            k = 0
        if k > last:
            k = last
        counts[k] += 1


def count_whole_numbers(values: NDArray[np.generic], low: int, high: int) -> NDArray[np.int64]:
    """How often each whole number from `low` to `high` occurs; no value may lie outside."""
    counts = np.zeros(high - low + 1, np.int64)
    _whole_numbers(values.reshape(-1), low, counts)
    return counts


def count_bins(
    values: NDArray[np.generic], low: float, high: float, bins: int
) -> NDArray[np.int64]:
    """Count finite values in equal bins from `low` to `high`; the last bin includes `high`."""
    counts = np.zeros(bins, np.int64)
    per_unit = bins / (high - low) if high > low else 0.0
    _bins(values.reshape(-1), low, per_unit, counts)
    return counts
