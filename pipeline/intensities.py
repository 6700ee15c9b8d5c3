"""Columns of one channel's intensities, from sums in steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels.measure import Quantum

Column = NDArray[Any]

#: Above it, sums of products may leave the 53 bits that a float holds; they are taken in whole
#: numbers of any size. Both ways give the same bits, for which one is taken depends on the tiles.
SAFE = 2.0**50


def channel_columns(channel: Column, quantum: Quantum) -> dict[str, Column]:
    """Smallest, mean, largest value, standard deviation and sum.

    Parameters
    ----------
    channel : ndarray of shape (n, 6), int64
        The sums of `pipeline.kernels.measure.Intensity`, in the order of its fields.
    """
    count, low, high, total = (channel[:, i] for i in range(4))
    known = count > 0
    # Counted from the object's smallest value, squares lose nothing to cancellation.
    largest = float(count.max(initial=0)) * float(high.max(initial=0)) ** 2
    exact = object if largest > SAFE else np.int64
    n, m, s = (column.astype(exact) for column in (count, low, total))
    square = channel[:, 4].astype(exact) * 2**32 + channel[:, 5].astype(exact)
    with np.errstate(divide="ignore", invalid="ignore"):
        safe = np.where(known, count, 1)
        mean = ((s - n * m) / safe).astype(np.float64)
        spread = ((square - 2 * m * s + n * m * m) / safe).astype(np.float64)
    deviation = np.sqrt(np.maximum(spread - mean**2, 0.0))
    # The range of a channel without any finite value is not finite either.
    offset = quantum.offset if np.isfinite(quantum.offset) else 0.0
    values = {
        "min": offset + quantum.step * low,
        "mean": offset + quantum.step * (mean + low),
        "max": offset + quantum.step * high,
        "std": quantum.step * deviation,
        "sum": offset * count + quantum.step * total,
    }
    return {key: np.where(known, value, np.nan) for key, value in values.items()}
