"""Markers on a regular grid: the best pixel of every component in the middle of every cell.

Everything is found from absolute coordinates in whole numbers, or in one order of operations, so
that every window finds the same.

References
----------
Machairas et al., Waterpixels, 2015, doi:10.1109/TIP.2015.2451011
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.box import Box
from pipeline.kernels.highest import highest_in_boxes
from pipeline.lattice import Lattice

Doubles = NDArray[np.float64]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]

#: The middle part of a cell has this share of its sides, and at least 1 px.
MIDDLE = (2, 3)
#: Stands for a component as a whole, where a cell has its number.
WHOLE = -1


@dataclass(frozen=True, slots=True)
class Candidates:
    """The best pixels that a box knows of.

    Parameters
    ----------
    pixel : ndarray of shape (n,), int64
        Raster indices in the box.
    region : ndarray of shape (n,), int64
    cell : ndarray of shape (n,), int64
        Cell in whose middle part a pixel is the best of its region, or `WHOLE`.
    height : ndarray of shape (n,), int32 or float32
    apart : ndarray of shape (n,), float64
        Squared way to the middle of the nearest cell, in halves of the wanted side.
    """

    pixel: Longs
    region: Longs
    cell: Longs
    height: NDArray[Any]
    apart: Doubles


def candidates(lattice: Lattice, box: Box, height: NDArray[Any], region: Ints) -> Candidates:
    """The highest pixel of every region of a box: in each cell's middle part, and altogether.

    Of several the one nearest to the middle of a cell, then the first in raster order.

    Parameters
    ----------
    lattice : Lattice
    box : Box
        Of the frame that the lattice fills.
    height : ndarray of shape (\\*box), int32 or float32
    region : ndarray of shape (\\*box), int32
        0 is none.
    """
    cells, spans, apart = [], [], []
    for axis in range(box.ndim):
        cell, way, inside = _along(lattice, axis, box)
        cells.append(cell)
        apart.append(_squared(lattice, axis, way))
        spans.append(_runs(cell, inside))
    whole = [np.array([[0, n]], np.int64) for n in box.shape]
    inner = _highest(height, region, apart, spans)
    pixel = np.concatenate([inner, _highest(height, region, apart, whole)])
    place = np.unravel_index(pixel, box.shape)
    number = np.zeros(len(pixel), np.int64)
    for count, cell, at in zip(lattice.counts, cells, place, strict=True):
        number = number * count + cell[at]
    number[len(inner) :] = WHOLE
    ways = functools.reduce(np.add, [way[at] for way, at in zip(apart, place, strict=True)])
    regions = region.reshape(-1)[pixel].astype(np.int64)
    return Candidates(pixel, regions, number, height.reshape(-1)[pixel], ways)


def chosen(found: Candidates) -> Longs:
    """Places, in the list, of the markers: the best of each region and cell, of all parts of it.

    A region without any in a middle part has its best pixel.
    """
    high = found.height.astype(np.float64)
    order = np.lexsort((found.pixel, found.apart, -high, found.cell, found.region))
    region, cell = found.region[order], found.cell[order]
    first = np.ones(len(order), np.bool_)
    first[1:] = (region[1:] != region[:-1]) | (cell[1:] != cell[:-1])
    has_cells = np.isin(region, region[cell != WHOLE])
    best: Longs = order[first & ((cell != WHOLE) | ~has_cells)]
    return best


def ways_to_middles(lattice: Lattice, box: Box) -> Doubles:
    """How far the pixels of a box are from the middle of the nearest cell.

    Returns
    -------
    ndarray of shape (\\*box), float64
        In halves of the wanted side.
    """
    squares = [_squared(lattice, axis, _along(lattice, axis, box)[1]) for axis in range(box.ndim)]
    total = functools.reduce(np.add.outer, squares)
    ways: Doubles = np.sqrt(total, out=total)
    return ways


def _along(lattice: Lattice, axis: int, box: Box) -> tuple[Longs, Longs, NDArray[np.bool_]]:
    """Nearest cells of the pixels of a box along an axis.

    Returns
    -------
    cell : ndarray of shape (n,), int64
    way : ndarray of shape (n,), int64
        From the cell's middle to the pixel's, in units in which a cell is 2 `lattice.shape` long.
    inside : ndarray of shape (n,), bool
        Whether the pixel is in the cell's middle part.
    """
    size, count = lattice.shape[axis], lattice.counts[axis]
    middle = (2 * np.arange(box.start[axis], box.stop[axis], dtype=np.int64) + 1) * count
    cell = middle // (2 * size)
    way = middle - (2 * cell + 1) * size
    share, of = MIDDLE
    return cell, way, of * np.abs(way) <= max(share * size, of * count)


def _squared(lattice: Lattice, axis: int, way: Longs) -> Doubles:
    step = lattice.spacing[axis] / lattice.size
    return (way / lattice.counts[axis] * step) ** 2


def _runs(cell: Longs, inside: NDArray[np.bool_]) -> Longs:
    """First and last + 1 pixel of each cell's part inside, shape (n, 2)."""
    at = np.flatnonzero(inside)
    begins = np.flatnonzero(np.diff(cell[at], prepend=-1))
    ends = np.append(begins, len(at))[1:]
    return np.stack([at[begins], at[ends - 1] + 1], axis=1)


def _highest(height: NDArray[Any], region: Ints, apart: list[Doubles], spans: list[Longs]) -> Longs:
    """`highest_in_boxes` of a plane or a volume."""
    missing = 3 - height.ndim
    deep = (1,) * missing + height.shape
    one = np.array([[0, 1]], np.int64)
    # A read-only array would be a second signature to compile, hence "W".
    pixel: Longs = highest_in_boxes(
        np.require(height, None, ["C", "W"]).reshape(deep),
        np.require(region, None, ["C", "W"]).reshape(deep),
        *[np.zeros(1)] * missing,
        *apart,
        *[one] * missing,
        *spans,
        int(region.max(initial=0)),
    )
    return pixel
