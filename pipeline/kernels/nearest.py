"""The nearest label of every pixel within a distance; of labels equally near, the smallest.

One axis after the other: the nearest in a row, the nearest of rows, the nearest of planes. What
is nearest of all is nearest in its row, and the smallest label of all is the smallest in its.
Distances are sums of whole numbers times the squares of the pixel's sides, in a fixed order.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

Labels: TypeAlias = npt.NDArray[np.uint32]
Floats: TypeAlias = npt.NDArray[np.float64]
Halo: TypeAlias = tuple[int, int, int]


def nearest_labels(
    labels: Labels, halo: Halo, reach: Halo, radius: float, sizes: tuple[float, float, float]
) -> Labels:
    """Give background pixels to the nearest object.

    Parameters
    ----------
    labels : ndarray of shape (Z, Y, X), uint32
        A window whose halo holds all objects within `radius` of the core; 0 is background.
    halo : tuple of int
    reach : tuple of int
        Whole pixels of `radius` along each axis; more than the halo where nothing lies behind it.
    radius : float
    sizes : tuple of float
        Sides of a pixel (z, y, x), in the unit of `radius`.

    Returns
    -------
    ndarray of the shape of the core, uint32
        0 under objects, and where none is within `radius`.
    """
    core = tuple(slice(h, n - h) for h, n in zip(halo, labels.shape, strict=True))
    squares = tuple(size * size for size in sizes)
    limit = radius * radius
    near = labels
    far = np.where(labels > 0, 0.0, np.inf)
    for axis in (2, 1, 0):
        if reach[axis]:
            # Behind the last axes only the core is needed; before, the halo of those to come.
            near, far = _along(near, far, axis, halo[axis], reach[axis], squares[axis], limit)
    return np.where(labels[core] > 0, np.uint32(0), near)


def _along(
    near: Labels, far: Floats, axis: int, halo: int, reach: int, square: float, limit: float
) -> tuple[Labels, Floats]:
    """Nearest within `reach` along an axis; cuts the halo off."""
    shape = near.shape
    before = int(np.prod(shape[:axis]))
    after = int(np.prod(shape[axis + 1 :]))
    size = shape[axis]
    found = np.zeros((before, size - 2 * halo, after), np.uint32)
    distance = np.full(found.shape, np.inf)
    _nearest(
        near.reshape(before, size, after),
        far.reshape(before, size, after),
        halo,
        reach,
        square,
        limit,
        found,
        distance,
    )
    kept = (*shape[:axis], size - 2 * halo, *shape[axis + 1 :])
    return found.reshape(kept), distance.reshape(kept)


@njit(cache=True, nogil=True)
def _nearest(
    near: Labels,
    far: Floats,
    halo: int,
    reach: int,
    square: float,
    limit: float,
    found: Labels,
    distance: Floats,
) -> None:
    before, size, after = found.shape
    last = near.shape[1] - 1
    for a in range(before):
        for b in range(size):
            here = b + halo
            for step in range(max(-reach, -here), min(reach, last - here) + 1):
                # Whole numbers of pixels first, so that both sides give the same bits.
                more = np.float64(step * step) * square
                place = here + step
                for c in range(after):
                    label = near[a, place, c]
                    if label == 0:
                        continue
                    there = far[a, place, c] + more
                    if there > limit or there > distance[a, b, c]:
                        continue
                    if there < distance[a, b, c] or label < found[a, b, c]:
                        distance[a, b, c] = there
                        found[a, b, c] = label
