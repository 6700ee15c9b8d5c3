"""Labels that lie near each other.

Two objects are compared by the boxes of what they have in blocks of pixels, and of rows of
such blocks: boxes that are too far apart end a comparison, and boxes that are near whatever they
hold settle it. Pixels are looked at in single blocks only. Distances are squared, in whole numbers.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.kernels.object_blocks import Blocks, object_blocks

Labels: TypeAlias = npt.NDArray[np.uint32]
Ints: TypeAlias = npt.NDArray[np.int32]
Longs: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Halo: TypeAlias = tuple[int, int, int]


def near_pairs(labels: Labels, halo: Halo, radius: float) -> Longs:
    """Pairs of labels of which the middles of two pixels are at most `radius` px apart.

    The nearest pixels of two objects are border pixels of both, so that others are left out.

    Parameters
    ----------
    labels : ndarray of shape (Z, Y, X), uint32
        A window whose halo holds all pixels within `radius` of the core.

    Returns
    -------
    ndarray of shape (n, 2), int64
        A label of the core, and another one; each pair once, in order. Two objects that are near
        only outside the window are a pair of the tile where they are.
    """
    core = tuple(slice(h, n - h) for h, n in zip(halo, labels.shape, strict=True))
    in_core = np.zeros(int(labels.max(initial=0)) + 1, np.bool_)
    in_core[labels[core].ravel()] = True
    limit = int(radius * radius)
    found, count = _near_pairs(labels, object_blocks(labels), in_core, limit)
    flat = np.sort(found[:count])
    return np.stack([flat >> 32, flat & 0xFFFFFFFF], axis=1)


@njit(cache=True, nogil=True)
def _near_pairs(labels: Labels, blocks: Blocks, in_core: Flags, limit: int) -> tuple[Longs, int]:
    """Pairs as one number each, with room, and their number."""
    owners, hulls = blocks.owners, blocks.hulls
    found = np.empty(64, np.int64)
    count = 0
    todo = np.empty((128, 2), np.int64)
    stack = np.empty((256, 4), np.int64)
    for i in range(len(owners)):
        todo[0] = 0, len(owners)
        left = min(1, len(owners) - 1 - i)
        while left:
            left -= 1
            a, b = todo[left, 0], todo[left, 1]
            middle = (a + b) // 2
            box = hulls[a] if b - a == 1 else blocks.hull_nodes[middle]
            # Pairs are looked at once, from the object that comes first.
            if b <= i + 1 or _least(hulls[i], box) > limit:
                continue
            if b - a > 1:
                todo[left] = a, middle
                todo[left + 1] = middle, b
                left += 2
                continue
            one, two = owners[i], owners[a]
            wanted = in_core[one] or in_core[two]
            if not wanted or not _are_near(labels, blocks, i, a, limit, stack):
                continue
            if count + 2 > len(found):
                found = _doubled(found)
            if in_core[one]:
                found[count] = (one << 32) | two
                count += 1
            if in_core[two]:
                found[count] = (two << 32) | one
                count += 1
    return found, count


@njit(cache=True, nogil=True)
def _doubled(pairs: Longs) -> Longs:
    more = np.empty(2 * len(pairs), np.int64)
    for n in range(len(pairs)):
        more[n] = pairs[n]
    return more


@njit(cache=True, nogil=True)
def _are_near(labels: Labels, blocks: Blocks, i: int, j: int, limit: int, stack: Longs) -> bool:
    boxes, nodes, starts = blocks.boxes, blocks.nodes, blocks.starts
    stack[0] = starts[i], starts[i + 1], starts[j], starts[j + 1]
    left = 1
    while left:
        left -= 1
        a, b, c, d = stack[left, 0], stack[left, 1], stack[left, 2], stack[left, 3]
        one = boxes[a] if b - a == 1 else nodes[(a + b) // 2]
        two = boxes[c] if d - c == 1 else nodes[(c + d) // 2]
        if _least(one, two) > limit:
            continue
        if _most(one, two) <= limit:
            return True
        if b - a == 1 and d - c == 1:
            if _pixels_are_near(labels, blocks.owners[i], one, blocks.owners[j], two, limit):
                return True
        elif b - a >= d - c:
            middle = (a + b) // 2
            stack[left] = a, middle, c, d
            stack[left + 1] = middle, b, c, d
            left += 2
        else:
            middle = (c + d) // 2
            stack[left] = a, b, c, middle
            stack[left + 1] = a, b, middle, d
            left += 2
    return False


@njit(cache=True, nogil=True)
def _pixels_are_near(
    labels: Labels, own: int, one: Ints, other: int, two: Ints, limit: int
) -> bool:
    for z in range(one[0], one[3] + 1):
        for y in range(one[1], one[4] + 1):
            for x in range(one[2], one[5] + 1):
                if labels[z, y, x] != own:
                    continue
                for to_z in range(two[0], two[3] + 1):
                    for to_y in range(two[1], two[4] + 1):
                        rest = limit - (z - to_z) ** 2 - (y - to_y) ** 2
                        if rest < 0:
                            continue
                        for to_x in range(two[2], two[5] + 1):
                            if (x - to_x) ** 2 <= rest and labels[to_z, to_y, to_x] == other:
                                return True
    return False


@njit(cache=True, nogil=True)
def _least(one: Ints, two: Ints) -> int:
    """Square of the least distance that pixels of two boxes can have."""
    total = 0
    for k in range(3):
        apart = max(0, one[k] - two[k + 3], two[k] - one[k + 3])
        total += apart * apart
    return total


@njit(cache=True, nogil=True)
def _most(one: Ints, two: Ints) -> int:
    """Square of the largest."""
    total = 0
    for k in range(3):
        apart = max(one[k + 3] - two[k], two[k + 3] - one[k])
        total += apart * apart
    return total
