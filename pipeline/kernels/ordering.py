"""Grey values as integers of the same order, so that one kernel serves integers and floats."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Ints: TypeAlias = npt.NDArray[np.int32]
Heights: TypeAlias = npt.NDArray[np.int32 | np.float32]

FLOAT_FLIP = np.int32(0x7FFFFFFF)  # turns the bits of negative floats into their order


def grey_heights(image: npt.NDArray[Any], objects: Literal["bright", "dark"]) -> Heights:
    """Grey values as heights, upside down for dark objects.

    Parameters
    ----------
    image : ndarray of any shape, real
    objects : {"bright", "dark"}

    Returns
    -------
    ndarray of the same shape, int32 where all values fit, else float32
        A copy. float32 may tie large neighbouring values.
    """
    upright = image
    if objects == "dark":
        upright = np.negative(image if image.dtype.kind == "f" else image.astype(np.int64))
    exact = image.dtype.kind in "iu" and image.dtype.itemsize <= 2
    if exact or (image.dtype == np.int32 and objects == "bright"):
        return np.array(upright, np.int32, order="C")
    return np.array(upright, np.float32, order="C")


def ordered_int32(values: Heights) -> Ints:
    """Map int32 or float32 to int32 of the same order.

    Parameters
    ----------
    values : ndarray of any shape, int32 or float32

    Returns
    -------
    ndarray of the same shape, int32
        C-contiguous. `values` where they are int32. The bits of a float32 count upwards for
        positive numbers and downwards for negative ones, so the latter are flipped; 0.0 and
        -0.0 both become 0.

    Raises
    ------
    ValueError
        Another dtype, or NaN.
    """
    # A read-only array would be a second signature to compile, hence "W".
    if values.dtype == np.int32:
        return np.require(values, np.int32, ["C", "W"])
    if values.dtype != np.float32:
        raise ValueError(f"dtype is {values.dtype}; int32 and float32 are supported")
    if np.isnan(values).any():
        raise ValueError("NaN has no place in the order of the pixels; replace it before")
    bits = np.ascontiguousarray(values).view(np.int32)
    ordered: Ints = bits ^ ((bits >> 31) & FLOAT_FLIP)
    ordered[ordered == -1] = 0  # what -0.0 became
    return ordered


def from_ordered(ordered: Ints, dtype: npt.DTypeLike) -> Heights:
    """Undo `ordered_int32`.

    Parameters
    ----------
    ordered : ndarray of any shape, int32
    dtype : int32 or float32
        What the values were.

    Returns
    -------
    ndarray of the same shape
    """
    if np.dtype(dtype) == np.int32:
        return ordered
    bits: Ints = ordered ^ ((ordered >> 31) & FLOAT_FLIP)
    return bits.view(np.float32)
