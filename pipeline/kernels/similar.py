"""Regions of neighbouring pixels of similar colour."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.kernels.neighbours import neighbour_steps

Longs: TypeAlias = NDArray[np.int64]


def similar_regions(
    colors: NDArray[Any], core: tuple[slice, ...], limit: float, connectivity: int
) -> tuple[NDArray[np.uint32], Longs]:
    """Regions of a core, and how they go on outside.

    Neighbours of similar colour are in one region, and so are the neighbours' neighbours, however
    far colours drift on the way.

    Parameters
    ----------
    colors : ndarray of shape (C, Y, X) or (C, Z, Y, X), int32 or float64
        Of the core and, where the frame goes on, of the ring of 1 px around it. NaN: no colour.
    core : tuple of slice
        The core, in `colors`.
    limit : float
        The largest squared distance of similar colours.
    connectivity : int
        4 or 8 in 2D; 6, 18 or 26 in 3D.

    Returns
    -------
    labels : ndarray of shape (\\*core), uint32
        1..n by the first pixel in raster order; 0 where there is no colour.
    links : ndarray of shape (m, 2), int64
        (label, raster index in `colors`) of regions and similar pixels of the ring, where those
        come behind their neighbours in the core: the owner of the ring sees the other pairs.
    """
    ndim = len(core)
    steps = neighbour_steps(ndim, connectivity)[connectivity // 2 :]
    volumes = np.ascontiguousarray(colors).reshape(
        len(colors), *(1,) * (3 - ndim), *colors.shape[1:]
    )
    box = np.array([(0, 1)] * (3 - ndim) + [(s.start, s.stop) for s in core], np.int64)
    shape = box[:, 1] - box[:, 0]
    parent = np.empty(int(shape.prod()), np.int64)
    ring_px = volumes[0].size - parent.size
    pairs = np.empty((ring_px * len(steps), 2), np.int64)
    count = _unite(volumes, box, limit, steps, parent, pairs)
    labels = np.empty(parent.size, np.uint32)
    _number(parent, labels)
    pairs = pairs[:count]
    links = np.stack([labels[pairs[:, 0]].astype(np.int64), pairs[:, 1]], axis=1)
    return labels.reshape(tuple(s.stop - s.start for s in core)), np.unique(links, axis=0)


@njit(cache=True, nogil=True)
def _unite(
    colors: NDArray[Any], box: Longs, limit: float, steps: Longs, parent: Longs, pairs: Longs
) -> int:
    """Unite similar pixels of the core; list the pairs that leave it, and return their number.

    A `parent` is the raster index, in the core, of an earlier pixel of the region; -1: no colour.
    """
    _, depth, height, width = colors.shape
    (z0, z1), (y0, y1), (x0, x1) = box
    columns, rows = x1 - x0, y1 - y0
    for i in range(len(parent)):
        parent[i] = i
    count = 0
    for i in range(len(parent)):
        z = z0 + i // (rows * columns)
        y = y0 + i // columns % rows
        x = x0 + i % columns
        if np.isnan(colors[0, z, y, x]):
            parent[i] = -1
            continue
        for s in range(len(steps)):
            k, j, h = z + steps[s, 0], y + steps[s, 1], x + steps[s, 2]
            if not (0 <= k < depth and 0 <= j < height and 0 <= h < width):
                continue
            if not _square(colors, z, y, x, k, j, h) <= limit:
                continue
            if z0 <= k < z1 and y0 <= j < y1 and x0 <= h < x1:
                _join(parent, i, ((k - z0) * rows + j - y0) * columns + h - x0)
            else:
                pairs[count, 0] = i
                pairs[count, 1] = (k * height + j) * width + h
                count += 1
    return count


@njit(cache=True, nogil=True)
def _square(colors: NDArray[Any], z: int, y: int, x: int, k: int, j: int, h: int) -> float:
    """Squared distance of two colours; NaN if one is none."""
    total = 0.0
    for c in range(len(colors)):
        apart = np.float64(colors[c, z, y, x]) - np.float64(colors[c, k, j, h])
        total += apart * apart
    return total


@njit(cache=True, nogil=True)
def _join(parent: Longs, a: int, b: int) -> None:
    while parent[a] != a:
        parent[a] = parent[parent[a]]
        a = parent[a]
    while parent[b] != b:
        parent[b] = parent[parent[b]]
        b = parent[b]
    # The earlier pixel becomes the root, whatever the order of unions.
    if a < b:
        parent[b] = a
    else:
        parent[a] = b


@njit(cache=True, nogil=True)
def _number(parent: Longs, labels: NDArray[np.uint32]) -> None:
    count = 0
    for i in range(len(parent)):
        if parent[i] < 0:
            labels[i] = 0
        elif parent[i] == i:
            count += 1
            labels[i] = count
        else:  # a parent comes first and is labelled already
            labels[i] = labels[parent[i]]
