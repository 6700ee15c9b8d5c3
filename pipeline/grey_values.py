"""Grey values of one core in the few forms that kernels are compiled for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels.measure import STEPS, Quantum
from pipeline.view import TileView


def core_values(view: TileView) -> NDArray[np.float32 | np.float64]:
    """Preprocessed grey values of a core, NaN where the image has none.

    Returns
    -------
    ndarray of shape (Z, Y, X), float32 where it holds all values of the dtype, else float64
        Z is 1 for a plane.
    """
    image, valid = view.image()[0], view.valid()
    small = image.dtype == np.float32 or (image.dtype.kind in "iu" and image.dtype.itemsize <= 2)
    values = image.astype(np.float32 if small else np.float64, order="C")
    if valid is not None:
        values[~valid] = np.nan
    planes: NDArray[np.float32 | np.float64] = values.reshape((1, *values.shape)[-3:])
    return planes


def quantum_of(view: TileView) -> Quantum:
    """Steps in which preprocessed grey values are summed: 1 for whole numbers, if it can be."""
    dtype = np.dtype(view.context.dtype)
    low, high = view.value_range()
    if dtype.kind in "iu" and high - low <= STEPS:
        return Quantum(low, 1.0)
    return Quantum.of(dtype, low, high)


def mean_value(total: int, count: int, quantum: Quantum, extremes: tuple[float, float]) -> float:
    """Mean of values summed in steps; between the extremes, for steps are rounded."""
    if quantum.step == 1 and quantum.offset.is_integer():
        mean = (total + int(quantum.offset) * count) / count
    else:
        mean = quantum.offset + quantum.step * (total / count)
    return min(max(mean, extremes[0]), extremes[1])
