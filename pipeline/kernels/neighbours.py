"""Neighbourhoods of a pixel."""

from __future__ import annotations

import itertools
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Longs: TypeAlias = npt.NDArray[np.int64]


def neighbour_steps(ndim: int, connectivity: int) -> Longs:
    """Steps to the neighbours of a pixel, in raster order.

    Parameters
    ----------
    ndim : int
    connectivity : int
        4 or 8 for `ndim` 2; 6, 18 or 26 for `ndim` 3.

    Returns
    -------
    ndarray of shape (connectivity, 3), int64
        dz, dy, dx.

    Raises
    ------
    ValueError
        There is no such connectivity.
    """
    reach = {(2, 4): 1, (2, 8): 2, (3, 6): 1, (3, 18): 2, (3, 26): 3}.get((ndim, connectivity))
    if reach is None:
        raise ValueError(f"connectivity is {connectivity}; use 4, 8 in 2D and 6, 18, 26 in 3D")
    planes = (0,) if ndim == 2 else (-1, 0, 1)
    steps = itertools.product(planes, (-1, 0, 1), (-1, 0, 1))
    return np.array([s for s in steps if 0 < sum(map(abs, s)) <= reach], np.int64)
