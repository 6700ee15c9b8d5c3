"""Grey reconstruction by dilation, within regions.

Definition
----------
F is the smallest function with F >= start and F(p) >= min(F(q), height(p)) for neighbours q of the
same region, below `height`: what a marker can rise to without leaving the landscape. F is unique,
so neither the order of the visits nor the cut into tiles can change it.

References
----------
Vincent, "Morphological grayscale reconstruction in image analysis: applications and efficient
algorithms", IEEE Transactions on Image Processing 2:176-201 (1993). DOI:10.1109/83.217222
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.kernels.neighbours import neighbour_steps

Ints: TypeAlias = npt.NDArray[np.int32]
Longs: TypeAlias = npt.NDArray[np.int64]
Heights: TypeAlias = npt.NDArray[np.int32 | np.float32]


def reconstruct(start: Heights, height: Heights, region: Ints, connectivity: int) -> Heights:
    """Raise `start` as far as the landscape allows.

    Parameters
    ----------
    start : ndarray of shape (Y, X) or (Z, Y, X), int32 or float32
        At most `height`; overwritten with the result.
    height : ndarray of the same shape and dtype
        Without NaN.
    region : ndarray of the same shape, int32
        Only pixels of equal number > 0 are neighbours; others keep their values.
    connectivity : int
        4 or 8 in two dimensions; 6, 18 or 26 in three.

    Returns
    -------
    ndarray
        `start`.

    Raises
    ------
    ValueError
        Shapes, dtypes or the connectivity do not fit.
    """
    if not start.shape == height.shape == region.shape or start.ndim not in (2, 3):
        raise ValueError(f"start {start.shape}, height {height.shape}, region {region.shape}")
    if start.dtype != height.dtype or start.dtype not in (np.int32, np.float32):
        raise ValueError(f"start is {start.dtype}, height {height.dtype}; int32 or float32 needed")
    if not start.flags.c_contiguous:
        raise ValueError("start must be C-contiguous")
    steps = neighbour_steps(start.ndim, connectivity)
    shape = (1,) * (3 - start.ndim) + start.shape
    _reconstruct(
        start.reshape(shape),
        np.require(height, None, ["C", "W"]).reshape(shape),
        np.require(region, np.int32, ["C", "W"]).reshape(shape),
        steps,
    )
    return start


@njit(cache=True, nogil=True)
def _reconstruct(
    found: npt.NDArray[np.generic], height: npt.NDArray[np.generic], region: Ints, steps: Longs
) -> None:
    """Two sweeps in raster order and back, then a queue for what they left.

    Steps come in raster order, so the first half leads to pixels that were swept before.
    """
    half = steps.shape[0] // 2
    planes, rows, columns = found.shape
    for z in range(planes):
        for y in range(rows):
            for x in range(columns):
                if region[z, y, x] > 0:
                    _raise(found, height, region, steps[:half], z, y, x)
    queue = np.empty(1024, np.int64)
    size = 0
    for z in range(planes - 1, -1, -1):
        for y in range(rows - 1, -1, -1):
            for x in range(columns - 1, -1, -1):
                if region[z, y, x] > 0:
                    _raise(found, height, region, steps[half:], z, y, x)
                    if _can_raise(found, height, region, steps[half:], z, y, x):
                        if size == queue.size:
                            queue = np.append(queue, np.empty(size, np.int64))
                        queue[size] = (z * rows + y) * columns + x
                        size += 1
    # A stack: the end does not depend on the order, and it needs no second array.
    while size > 0:
        size -= 1
        row, x = queue[size] // columns, queue[size] % columns
        z, y = row // rows, row % rows
        for k in range(steps.shape[0]):
            c, b, a = z + steps[k, 0], y + steps[k, 1], x + steps[k, 2]
            if not _is_beside(region, z, y, x, c, b, a):
                continue
            level = min(found[z, y, x], height[c, b, a])
            if level > found[c, b, a]:
                found[c, b, a] = level
                if size == queue.size:
                    queue = np.append(queue, np.empty(size, np.int64))
                queue[size] = (c * rows + b) * columns + a
                size += 1


@njit(cache=True, nogil=True)
def _raise(
    found: npt.NDArray[np.generic],
    height: npt.NDArray[np.generic],
    region: Ints,
    steps: Longs,
    z: int,
    y: int,
    x: int,
) -> None:
    """Raise a pixel to the highest of some neighbours, up to its own height."""
    top = found[z, y, x]
    for k in range(steps.shape[0]):
        c, b, a = z + steps[k, 0], y + steps[k, 1], x + steps[k, 2]
        if _is_beside(region, z, y, x, c, b, a):
            top = max(top, found[c, b, a])
    found[z, y, x] = min(top, height[z, y, x])


@njit(cache=True, nogil=True)
def _can_raise(
    found: npt.NDArray[np.generic],
    height: npt.NDArray[np.generic],
    region: Ints,
    steps: Longs,
    z: int,
    y: int,
    x: int,
) -> bool:
    """Whether a pixel can raise one of some neighbours."""
    for k in range(steps.shape[0]):
        c, b, a = z + steps[k, 0], y + steps[k, 1], x + steps[k, 2]
        if not _is_beside(region, z, y, x, c, b, a):
            continue
        if min(found[z, y, x], height[c, b, a]) > found[c, b, a]:
            return True
    return False


@njit(cache=True, nogil=True)
def _is_beside(region: Ints, z: int, y: int, x: int, c: int, b: int, a: int) -> bool:
    """Whether (c, b, a) lies in the window and in the region of (z, y, x)."""
    planes, rows, columns = region.shape
    if not (0 <= c < planes and 0 <= b < rows and 0 <= a < columns):
        return False
    return bool(region[c, b, a] == region[z, y, x])
