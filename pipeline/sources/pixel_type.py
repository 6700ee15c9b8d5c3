"""Which numbers may be pixels."""

from __future__ import annotations

import numpy as np

from pipeline.errors import UnreadableError


def pixel_type(path: str, dtype: np.dtype) -> str:
    """The NumPy name that `Source.read` returns; bilevel pixels are uint8 of 0 and 1.

    Half floats are float32, which holds each of them: nothing is calculated with half floats.

    Raises
    ------
    UnreadableError
        Complex, structured or otherwise not a real number.
    """
    if dtype.kind == "b":
        return "uint8"
    if dtype.kind == "f" and dtype.itemsize == 2:
        return "float32"
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise UnreadableError(
            path,
            f"its pixels are {dtype}; only whole and floating point numbers up to 64 bit are read",
            "Convert it, for example to its magnitude.",
        )
    return dtype.newbyteorder("=").name
