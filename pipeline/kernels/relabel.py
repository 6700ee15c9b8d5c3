"""Numbers of pixels: which occur, and new ones for old ones.

NumPy's indexing makes a copy of the numbers as 64-bit integers first, twice the size of a tile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


def relabel(
    numbers: NDArray[np.integer[Any]], table: NDArray[Any], out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """``table[numbers]``.

    Parameters
    ----------
    numbers : ndarray of any shape, integer
        Places in the table; negative ones count from its end.
    table : ndarray of shape (n,)
    out : ndarray of the shape of `numbers`, dtype of `table`, C-contiguous, optional
        Where the result goes; may be `numbers`.

    Returns
    -------
    ndarray of the shape of `numbers`, dtype of `table`

    Raises
    ------
    IndexError
        A number is not in the table.
    ValueError
        `out` does not fit.
    """
    # A read-only array would be a second signature to compile, hence "W".
    flat = np.require(numbers, None, ["C", "W"]).reshape(-1)
    found = np.empty(numbers.shape, table.dtype) if out is None else out
    if found.shape != numbers.shape or found.dtype != table.dtype or not found.flags.c_contiguous:
        raise ValueError(f"out must be C-contiguous, {table.dtype}, of shape {numbers.shape}")
    if not _relabel(flat, np.require(table, None, ["C", "W"]), found.reshape(-1)):
        raise IndexError(f"a number is not in the table of {table.size}")
    return found


def occurring(numbers: NDArray[np.integer[Any]], size: int) -> NDArray[np.bool_]:
    """Which of 0..`size` - 1 occur.

    Parameters
    ----------
    numbers : ndarray of any shape, integer
        Below `size`; negative ones are left out.

    Returns
    -------
    ndarray of shape (size,), bool

    Raises
    ------
    IndexError
        A number is not below `size`.
    """
    found = np.zeros(size, np.bool_)
    if not _mark(np.require(numbers, None, ["C", "W"]).reshape(-1), found):
        raise IndexError(f"numbers up to {numbers.max()}, not below {size}")
    return found


def numbered(
    names: NDArray[np.integer[Any]], size: int
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Number the names that occur.

    Parameters
    ----------
    names : ndarray of any shape, integer
        Below `size`; 0 is none.

    Returns
    -------
    labels : ndarray of the same shape, uint32
        1..n in the order of the names; 0 where there is none.
    found : ndarray of shape (n,), int64
        The names.
    """
    found = np.flatnonzero(occurring(names, size))
    found = found[found > 0]
    number = np.zeros(size, np.uint32)
    number[found] = np.arange(1, len(found) + 1)
    return relabel(names, number), found


@njit(cache=True, nogil=True)
def _mark(flat: NDArray[Any], found: NDArray[np.bool_]) -> bool:
    size = np.int64(found.size)
    for i in range(flat.size):
        place = np.int64(flat[i])
        if place >= size:
            return False
        if place >= 0:
            found[np.uintp(place)] = True
    return True


@njit(cache=True, nogil=True)
def _relabel(flat: NDArray[Any], table: NDArray[Any], out: NDArray[Any]) -> bool:
    size = np.int64(table.size)
    for i in range(flat.size):
        place = np.int64(flat[i])
        if place < 0:
            place += size
        if place < 0 or place >= size:
            return False
        out[i] = table[np.uintp(place)]
    return True


def first_pixels(numbers: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """Smallest raster index of each number 1..count; all of them occur, 0 is none."""
    pixel = np.flatnonzero(numbers)
    first = np.zeros(count, np.int64)
    # Backwards, so that the first pixel is the last one written.
    first[numbers.reshape(-1)[pixel[::-1]] - 1] = pixel[::-1]
    return first
