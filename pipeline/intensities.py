"""Columns of one channel's intensities, from sums in steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels.measure import Quantum, from_ordered, is_short

Column = NDArray[Any]

#: Above it, sums of products may leave the 53 bits that a float holds; they are taken in whole
#: numbers of any size. Both ways give the same bits, for which one is taken depends on the tiles.
SAFE = 2.0**50


def channel_columns(
    channel: Column, dtype: np.dtype[np.generic], limits: tuple[float, float]
) -> dict[str, Column]:
    """Smallest, mean, largest value, standard deviation and sum.

    Parameters
    ----------
    channel : ndarray of shape (n, 11), int64
        The sums of `pipeline.kernels.measure.Intensity`, in the order of its fields.
    dtype : dtype
        Of the image.
    limits : tuple of float
        Range of the channel, of which its steps were made.
    """
    known = channel[:, 0] > 0
    quantum = Quantum.of(dtype, *limits)
    values = (_of_short if is_short(dtype) else _of_wide)(channel, known, quantum)
    return {key: np.where(known, value, np.nan) for key, value in values.items()}


def _of_short(channel: Column, known: Column, quantum: Quantum) -> dict[str, Column]:
    """Of whole numbers of up to 16 bits."""
    count, total = channel[:, 0], channel[:, 3]
    low, high = (np.where(known, channel[:, k], 0) for k in (1, 2))
    # Counted from the object's smallest value, squares lose nothing to cancellation.
    largest = float(count.max(initial=0)) * float(high.max(initial=0)) ** 2
    exact = object if largest > SAFE else np.int64
    n, m, s = (column.astype(exact) for column in (count, low, total))
    square = channel[:, 4].astype(exact) * 2**32 + channel[:, 5].astype(exact)
    safe = np.where(known, count, 1)
    mean = ((s - n * m) / safe).astype(np.float64)
    spread = ((square - 2 * m * s + n * m * m) / safe).astype(np.float64)
    return {
        "min": quantum.offset + low,
        "mean": quantum.offset + (mean + low),
        "max": quantum.offset + high,
        "std": np.sqrt(np.maximum(spread - mean**2, 0.0)),
        "sum": quantum.offset * count + total,
    }


def _of_wide(channel: Column, known: Column, quantum: Quantum) -> dict[str, Column]:
    """Of all others, from steps and their parts, in whole numbers of any size."""
    low, high = (np.where(known, from_ordered(channel[:, k]), 0.0) for k in (1, 2))
    if not known.any():
        return dict.fromkeys(("min", "mean", "max", "std", "sum"), low)
    step = quantum.step
    first = round(quantum.offset / step)
    rest = quantum.offset - first * step  # of images that are all one value
    whole = channel.astype(object)
    n = np.where(known, whole[:, 0], 1)
    total = whole[:, 3] * 2**31 + whole[:, 6]
    square, cross, small = (whole[:, k] * 2**32 + whole[:, k + 1] for k in (4, 7, 9))
    products = square * 2**62 + cross * 2**32 + small
    spread = ((n * products - total * total) / (n * n * 2**62)).astype(np.float64)
    total = total + n * (first * 2**31)
    with np.errstate(over="ignore"):
        mean = step * (total / (n * 2**31)).astype(np.float64) + rest
        return {
            "min": low,
            "mean": np.clip(mean, low, high),
            "max": high,
            "std": step * np.sqrt(spread),
            "sum": step * (total / 2**31).astype(np.float64) + rest * channel[:, 0],
        }
