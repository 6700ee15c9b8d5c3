"""The border of each object, in small blocks with their boxes, and trees over these.

Where many pixels are compared with many, most of it is settled by boxes that hold them.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

Labels: TypeAlias = npt.NDArray[np.uint32]
Ints: TypeAlias = npt.NDArray[np.int32]
Longs: TypeAlias = npt.NDArray[np.int64]
Halo: TypeAlias = tuple[int, int, int]

#: Sides of a block (z, y, x), both of 64 px.
PLANE_BLOCK, VOLUME_BLOCK = (1, 8, 8), (4, 4, 4)


class Blocks(NamedTuple):
    """Border pixels of objects, block by block; those of one object follow each other.

    Parameters
    ----------
    boxes : ndarray of shape (n, 6), int32
        First and last pixel (z, y, x) of what an object has in a block. Each side of the box
        holds a pixel.
    nodes : ndarray of shape (n, 6), int32
        The tree of each object: what the blocks a..b have together stands at (a + b) // 2, for
        all of them and then for each half. No two of these places are the same.
    owners : ndarray of shape (m,), int64
        Label of each object, those that lie close together in a row.
    starts : ndarray of shape (m + 1,), int64
        First block of each object.
    hulls : ndarray of shape (m, 6), int32
        The box of each object.
    hull_nodes : ndarray of shape (m, 6), int32
        The tree of all objects, as `nodes`.
    """

    boxes: Ints
    nodes: Ints
    owners: Longs
    starts: Longs
    hulls: Ints
    hull_nodes: Ints


def object_blocks(labels: Labels) -> Blocks:
    """Cut the border of objects into blocks.

    Parameters
    ----------
    labels : ndarray of shape (Z, Y, X), uint32
        A pixel is on the border if one that shares a face with it has another label, or if it is
        at the end of the array.
    """
    side = PLANE_BLOCK if labels.shape[0] == 1 else VOLUME_BLOCK
    counts = tuple(-(-n // k) for n, k in zip(labels.shape, side, strict=True))
    rows, count = _found(labels, np.array(side, np.int64), _along_a_curve(counts))
    found = rows[:count]
    # Blocks come in the order of the curve, and so do objects by their first ones.
    labels_found, first, number = np.unique(found[:, 0], return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    by_object = np.argsort(rank[number], kind="stable")
    boxes = np.ascontiguousarray(found[by_object, 1:])
    sizes = np.bincount(rank[number], minlength=len(order))
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    nodes = _trees(boxes, starts)
    hulls = nodes[(starts[:-1] + starts[1:]) // 2]
    hull_nodes = _trees(hulls, np.array([0, len(hulls)], np.int64))
    owners = labels_found[order].astype(np.int64)
    return Blocks(boxes, nodes, owners, starts, hulls, hull_nodes)


def _along_a_curve(counts: Halo) -> Longs:
    """Numbers of blocks (z, y, x) in Morton's order, (n, 3): what is close in it is close."""
    places: Longs = np.indices(counts, np.int64).reshape(3, -1)
    code = np.zeros(places.shape[1], np.int64)
    for bit in range(max(counts).bit_length()):
        for k, axis in enumerate(places[::-1]):
            code |= ((axis >> bit) & 1) << (3 * bit + k)
    return np.ascontiguousarray(places[:, np.argsort(code)].T)


@njit(cache=True, nogil=True)
def _found(labels: Labels, side: Longs, blocks: Longs) -> tuple[Ints, int]:
    """Label and box of what each object has in each block, (n, 7), with room, and their number."""
    planes, height, width = labels.shape
    rows = np.empty((64, 7), np.int32)
    count = 0
    for n in range(len(blocks)):
        begun = count
        z0, y0, x0 = blocks[n, 0] * side[0], blocks[n, 1] * side[1], blocks[n, 2] * side[2]
        for z in range(z0, min(z0 + side[0], planes)):
            for y in range(y0, min(y0 + side[1], height)):
                for x in range(x0, min(x0 + side[2], width)):
                    own = labels[z, y, x]
                    if own == 0 or _is_inside(labels, z, y, x):
                        continue
                    k = begun
                    while k < count and rows[k, 0] != np.int32(own):
                        k += 1
                    if k < count:
                        rows[k, 1], rows[k, 4] = min(rows[k, 1], z), max(rows[k, 4], z)
                        rows[k, 2], rows[k, 5] = min(rows[k, 2], y), max(rows[k, 5], y)
                        rows[k, 3], rows[k, 6] = min(rows[k, 3], x), max(rows[k, 6], x)
                        continue
                    if count == len(rows):
                        rows = _doubled(rows)
                    rows[count, 0] = own
                    rows[count, 1], rows[count, 2], rows[count, 3] = z, y, x
                    rows[count, 4], rows[count, 5], rows[count, 6] = z, y, x
                    count += 1
    return rows, count


@njit(cache=True, nogil=True)
def _doubled(rows: Ints) -> Ints:
    # Slices take seconds to compile.
    more = np.empty((2 * len(rows), rows.shape[1]), np.int32)
    for n in range(len(rows)):
        for k in range(rows.shape[1]):
            more[n, k] = rows[n, k]
    return more


@njit(cache=True, nogil=True)
def _is_inside(labels: Labels, z: int, y: int, x: int) -> bool:
    planes, height, width = labels.shape
    own = labels[z, y, x]
    inside: bool = (
        0 < y < height - 1
        and 0 < x < width - 1
        and labels[z, y, x - 1] == own
        and labels[z, y, x + 1] == own
        and labels[z, y - 1, x] == own
        and labels[z, y + 1, x] == own
        and (
            planes == 1
            or (0 < z < planes - 1 and labels[z - 1, y, x] == own and labels[z + 1, y, x] == own)
        )
    )
    return inside


@njit(cache=True, nogil=True)
def _trees(boxes: Ints, starts: Longs) -> Ints:
    """The tree of each run of boxes."""
    nodes = boxes.copy()
    # Of a single box the node is itself; of several, halves are made before what they are of.
    todo = np.empty((128, 3), np.int64)
    for n in range(len(starts) - 1):
        todo[0] = starts[n], starts[n + 1], 0
        count = 1
        while count:
            count -= 1
            a, b, done = todo[count, 0], todo[count, 1], todo[count, 2]
            if b - a < 2:
                continue
            middle = (a + b) // 2
            if not done:
                todo[count] = a, b, 1
                todo[count + 1] = a, middle, 0
                todo[count + 2] = middle, b, 0
                count += 3
                continue
            left = boxes[a] if middle - a == 1 else nodes[(a + middle) // 2]
            right = boxes[middle] if b - middle == 1 else nodes[(middle + b) // 2]
            for k in range(3):
                nodes[middle, k] = min(left[k], right[k])
                nodes[middle, k + 3] = max(left[k + 3], right[k + 3])
    return nodes
