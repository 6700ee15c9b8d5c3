"""Parts of a partition that touch: their sizes, their borders, and merging the small ones."""

from __future__ import annotations

import heapq
from typing import TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

Longs: TypeAlias = NDArray[np.int64]
Ints: TypeAlias = NDArray[np.int32]


@njit(cache=True, nogil=True)
def count_pixels(parts: Ints, box: Longs, sizes: Longs) -> None:
    """Add the pixels of a box to the size of their part.

    Parameters
    ----------
    parts : ndarray of shape (Z, Y, X), int32
        -1 is no part.
    box : ndarray of shape (3, 2), int64
        First and last + 1 on every axis.
    sizes : ndarray of shape (n,), int64
    """
    for z in range(box[0, 0], box[0, 1]):
        for y in range(box[1, 0], box[1, 1]):
            for x in range(box[2, 0], box[2, 1]):
                if parts[z, y, x] >= 0:
                    sizes[parts[z, y, x]] += 1


@njit(cache=True, nogil=True)
def border_codes(parts: Ints, box: Longs, large: NDArray[np.bool_], codes: Longs) -> int:
    """List the pairs of neighbours, over faces, that belong to two parts, not both of them large.

    Every pair is listed once in the whole image: by the first of its pixels, if that is in the box.

    Parameters
    ----------
    parts, box
        As for `count_pixels`.
    large : ndarray of shape (n,), bool
    codes : ndarray of shape (m,), int64
        (smaller part * n + greater part) of the first m pairs is written here.

    Returns
    -------
    int
        Number of pairs.
    """
    planes, rows, columns = parts.shape
    n = np.int64(len(large))
    count = 0
    for z in range(box[0, 0], box[0, 1]):
        for y in range(box[1, 0], box[1, 1]):
            for x in range(box[2, 0], box[2, 1]):
                a = np.int64(parts[z, y, x])
                if a < 0:
                    continue
                for axis in range(3):
                    k, j, i = z + (axis == 0), y + (axis == 1), x + (axis == 2)
                    if k >= planes or j >= rows or i >= columns:
                        continue
                    b = np.int64(parts[k, j, i])
                    if b < 0 or a == b or (large[a] and large[b]):
                        continue
                    if count < len(codes):
                        codes[count] = min(a, b) * n + max(a, b)
                    count += 1
    return count


def merge_small(sizes: Longs, pairs: Longs, lengths: Longs, least_px: int) -> Longs:
    """Merge parts that are too small into their neighbours, the smallest first.

    Again and again the smallest part (of equal ones the one of the smaller number) is united with
    the neighbour with which it has the longest border (of equal ones that of the smaller number).
    The union has the smaller number, the sum of the sizes and of the borders. It ends when every
    part is large enough or has no neighbour.

    Parameters
    ----------
    sizes : ndarray of shape (n,), int64
        0: there is no such part.
    pairs : ndarray of shape (m, 2), int64
        Neighbours, each pair once; pairs of two large parts may be left out.
    lengths : ndarray of shape (m,), int64
        Of their borders, more than 0.
    least_px : int

    Returns
    -------
    ndarray of shape (n,), int64
        Number of the part that each has become.
    """
    parent = np.arange(len(sizes))
    _merge(sizes.copy(), np.ascontiguousarray(pairs), lengths, least_px, parent)
    return parent


@njit(cache=True, nogil=True)
def _merge(sizes: Longs, pairs: Longs, lengths: Longs, least_px: int, parent: Longs) -> None:
    # Half an edge e goes from pairs[e // 2, e % 2] to the other one. Those of a part are a chain,
    # so that two parts are united by linking the ends of their chains.
    n = len(sizes)
    head, tail = np.full(n, -1), np.full(n, -1)
    behind = np.full(2 * len(pairs), -1)
    for e in range(2 * len(pairs)):
        _link(head, tail, behind, pairs[e // 2, e % 2], e, e)
    waiting = [(np.int64(0), np.int64(0))]  # tells the type
    for part in range(n):
        if 0 < sizes[part] < least_px:
            waiting.append((sizes[part], np.int64(part)))
    heapq.heapify(waiting)
    border = np.zeros(n, np.int64)
    while len(waiting) > 0:
        size, a = heapq.heappop(waiting)
        if size == 0 or parent[a] != a or sizes[a] != size:
            continue
        b = _closest(a, pairs, lengths, parent, head, behind, border)
        if b < 0:
            continue
        a, b = min(a, b), max(a, b)
        parent[b] = a
        sizes[a] += sizes[b]
        if head[b] >= 0:
            _link(head, tail, behind, a, head[b], tail[b])
        if sizes[a] < least_px:
            heapq.heappush(waiting, (sizes[a], a))
    for part in range(n):
        parent[part] = _root(parent, part)


@njit(cache=True, nogil=True)
def _link(head: Longs, tail: Longs, behind: Longs, a: int, first: int, last: int) -> None:
    if head[a] < 0:
        head[a] = first
    else:
        behind[tail[a]] = first
    tail[a] = last


@njit(cache=True, nogil=True)
def _closest(
    a: int,
    pairs: Longs,
    lengths: Longs,
    parent: Longs,
    head: Longs,
    behind: Longs,
    border: Longs,
) -> np.int64:
    """The neighbour with the longest border, -1 if there is none; `border` is 0 before and after.

    Chains of parts that are still small are short: a border has at most twice its dimensions as
    many faces as a part has pixels.
    """
    e = head[a]
    while e >= 0:
        b = _root(parent, pairs[e // 2, 1 - e % 2])
        if b != a:
            border[b] += lengths[e // 2]
        e = behind[e]
    best, longest = np.int64(-1), np.int64(0)
    e = head[a]
    while e >= 0:
        b = _root(parent, pairs[e // 2, 1 - e % 2])
        if border[b] > longest or (border[b] == longest > 0 and b < best):
            best, longest = b, border[b]
        e = behind[e]
    e = head[a]
    while e >= 0:
        border[_root(parent, pairs[e // 2, 1 - e % 2])] = 0
        e = behind[e]
    return best


@njit(cache=True, nogil=True)
def _root(parent: Longs, a: int) -> int:
    while parent[a] != a:
        parent[a] = parent[parent[a]]
        a = parent[a]
    return a
