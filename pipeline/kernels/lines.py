"""Lines between objects that touch."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.kernels.neighbours import neighbour_steps

Labels: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]


def without_lines(labels: Labels, connectivity: int) -> Labels:
    """Make background of every pixel that has a neighbour of a smaller label.

    No two labels are neighbours any more, and of each touching pair one loses a pixel's width.

    Parameters
    ----------
    labels : ndarray of shape (Y, X) or (Z, Y, X), unsigned integer
        0 is background. Pixels behind the border are not there.
    connectivity : int
        4 or 8 in two dimensions; 6, 18 or 26 in three.

    Returns
    -------
    ndarray of the same shape and dtype
    """
    shape = (1,) * (3 - labels.ndim) + labels.shape
    steps = neighbour_steps(labels.ndim, connectivity)
    found = np.empty(shape, labels.dtype)
    _without_lines(np.require(labels, None, ["C", "W"]).reshape(shape), steps, found)
    return found.reshape(labels.shape)


@njit(cache=True, nogil=True)
def _without_lines(labels: Labels, steps: npt.NDArray[np.int64], found: Labels) -> None:
    planes, rows, columns = labels.shape
    for z in range(planes):
        for y in range(rows):
            for x in range(columns):
                own = labels[z, y, x]
                found[z, y, x] = own
                if own == 0:
                    continue
                for k in range(steps.shape[0]):
                    c, b, a = z + steps[k, 0], y + steps[k, 1], x + steps[k, 2]
                    inside = 0 <= c < planes and 0 <= b < rows and 0 <= a < columns
                    if inside and 0 < labels[c, b, a] < own:
                        found[z, y, x] = 0
                        break
