"""Arrays that stay on disk: only the pages that are looked at come into memory."""

from __future__ import annotations

from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray


def mapped_array(stream: BinaryIO) -> NDArray[Any]:
    """Map the array of an .npy stream that begins here, and step behind it.

    What is written to the array stays with it and never gets into the file.
    """
    np.lib.format.read_magic(stream)
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    begin = stream.tell()
    if 0 in shape:
        return np.empty(shape, dtype)
    order: Literal["F", "C"] = "F" if is_fortran else "C"
    found = np.memmap(stream, dtype, "c", begin, shape, order)
    stream.seek(begin + found.nbytes)
    # A plain array: kernels are compiled for those, and for those that can be written to.
    return np.asarray(found)
