"""Merging the regions of a graph, the closest two first.

The edge of smallest (weight, smaller end, larger end) is merged, and the smaller number stays. Its
sums are the sums of both, parallel edges become one, and the weights of all its edges are made
anew from the sums. Numbers follow the regions' first pixels, so the order is that of the image, and
whole numbers make weights independent of how the regions came about.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

Longs: TypeAlias = NDArray[np.int64]
Ints: TypeAlias = NDArray[np.int32]
Floats: TypeAlias = NDArray[np.float64]

MEAN_COLOR, WARD, BOUNDARY = 0, 1, 2
OUT, GONE = -1, -2


class Merges(NamedTuple):
    """Merges in their order.

    Parameters
    ----------
    kept, gone : ndarray of shape (M,), int64
        Places of the region that stays and of the one that joins it.
    weight : ndarray of shape (M,), float64
        Of the edge between them.
    """

    kept: Longs
    gone: Longs
    weight: Floats


class _Nodes(NamedTuple):
    pixels: Longs
    sums: Longs
    #: First and last half-edge of each region's list; half-edges 2 e and 2 e + 1 are of edge e.
    first: Longs
    last: Longs


class _Edges(NamedTuple):
    low: Longs
    high: Longs
    length: Longs
    total: Longs
    weight: Floats
    #: The half-edge behind each half-edge; -1 at the end.
    behind: Longs
    #: Place of each edge in the heap; OUT while it is not in it, GONE for ever.
    place: Longs
    heap: Longs


def agglomerate(
    count: Longs,
    sums: Longs,
    low: Longs,
    high: Longs,
    length: Longs,
    total: Longs,
    step: Floats,
    rule: int,
    limit: float,
    regions: int,
) -> Merges:
    """Merge until the smallest weight is `limit` or more, or `regions` are left.

    Parameters
    ----------
    count : ndarray of shape (N,), int64
    sums : ndarray of shape (N, C), int64
    low, high : ndarray of shape (E,), int64
        Places of the ends of every edge, low < high; no pair twice.
    length, total : ndarray of shape (E,), int64
        Pairs of pixels along each border, and the sum of boundary values of both pixels.
    step : ndarray of shape (C + 1,), float64
        Size of a step of each channel and of the boundary.
    rule : {MEAN_COLOR, WARD, BOUNDARY}
        The weight: distance of mean values; growth of the sum of squares; mean boundary value.

    References
    ----------
    Ward, "Hierarchical grouping to optimize an objective function", Journal of the American
    Statistical Association 58:236-244 (1963). DOI:10.1080/01621459.1963.10500845
    """
    most = max(0, len(count) - max(regions, 1))
    kept, gone = np.empty(most, np.int64), np.empty(most, np.int64)
    weight = np.empty(most, np.float64)
    done = _agglomerate(
        count.copy(),
        np.ascontiguousarray(sums).copy(),
        low.copy(),
        high.copy(),
        length.copy(),
        total.copy(),
        step,
        rule,
        limit,
        kept,
        gone,
        weight,
    )
    return Merges(kept[:done].copy(), gone[:done].copy(), weight[:done].copy())


@njit(cache=True, nogil=True)
def _agglomerate(
    count: Longs,
    sums: Longs,
    low: Longs,
    high: Longs,
    length: Longs,
    total: Longs,
    step: Floats,
    rule: int,
    limit: float,
    kept: Longs,
    gone: Longs,
    weight: Floats,
) -> int:
    size, edge_count = count.size, low.size
    nodes = _Nodes(
        count,
        sums,
        np.full(size, -1, np.int64),
        np.full(size, -1, np.int64),
    )
    edges = _Edges(
        low,
        high,
        length,
        total,
        np.empty(edge_count, np.float64),
        np.full(2 * edge_count, -1, np.int64),
        np.arange(edge_count),
        np.arange(edge_count),
    )
    for e in range(edge_count):
        _append(nodes, edges, low[e], 2 * e)
        _append(nodes, edges, high[e], 2 * e + 1)
        edges.weight[e] = _weigh(nodes, edges, e, step, rule)
    heap_size = edge_count
    for k in range(edge_count // 2 - 1, -1, -1):
        _sink(edges, k, heap_size)
    mark = np.full(size, -1, np.int64)  # the edge that leads to each neighbour
    done = 0
    while heap_size > 0 and done < kept.size:
        e = edges.heap[0]
        if not edges.weight[e] < limit:
            break
        a, b = low[e], high[e]
        kept[done], gone[done], weight[done] = a, b, edges.weight[e]
        done += 1
        heap_size = _remove(edges, e, heap_size)
        edges.place[e] = GONE
        # An edge must be out of the heap while its key changes.
        for node in (a, b):
            half = nodes.first[node]
            while half >= 0:
                if edges.place[half >> 1] >= 0:
                    heap_size = _remove(edges, half >> 1, heap_size)
                half = edges.behind[half]
        _join(nodes, edges, a, b, mark)
        half = nodes.first[a]
        while half >= 0:
            f = half >> 1
            edges.weight[f] = _weigh(nodes, edges, f, step, rule)
            edges.heap[heap_size] = f
            edges.place[f] = heap_size
            _rise(edges, heap_size)
            heap_size += 1
            half = edges.behind[half]
    return done


@njit(cache=True, nogil=True)
def _weigh(nodes: _Nodes, edges: _Edges, e: int, step: Floats, rule: int) -> float:
    if rule == BOUNDARY:
        return float(step[-1] * (edges.total[e] / (2.0 * edges.length[e])))
    a, b = edges.low[e], edges.high[e]
    n, m = float(nodes.pixels[a]), float(nodes.pixels[b])
    square = 0.0
    for c in range(nodes.sums.shape[1]):
        apart = step[c] * (nodes.sums[a, c] / n - nodes.sums[b, c] / m)
        square += apart * apart
    if rule == WARD:
        return square * (n * m / (n + m))
    return math.sqrt(square)


@njit(cache=True, nogil=True)
def _append(nodes: _Nodes, edges: _Edges, node: int, half: int) -> None:
    """Put a half-edge behind the others of a region."""
    if nodes.first[node] < 0:
        nodes.first[node] = half
    else:
        edges.behind[nodes.last[node]] = half
    nodes.last[node] = half


@njit(cache=True, nogil=True)
def _join(nodes: _Nodes, edges: _Edges, a: int, b: int, mark: Longs) -> None:
    """Make region `b` a part of `a`; their edges are out of the heap."""
    nodes.pixels[a] += nodes.pixels[b]
    for c in range(nodes.sums.shape[1]):
        nodes.sums[a, c] += nodes.sums[b, c]
    lists = (nodes.first[a], nodes.first[b])
    nodes.first[a] = nodes.last[a] = nodes.first[b] = nodes.last[b] = -1
    for turn in range(2):
        own, half = (a, lists[0]) if turn == 0 else (b, lists[1])
        while half >= 0:
            following = edges.behind[half]
            edges.behind[half] = -1
            e = half >> 1
            if edges.place[e] != GONE:
                other = edges.high[e] if edges.low[e] == own else edges.low[e]
                f = mark[other]
                if f >= 0:
                    edges.length[f] += edges.length[e]
                    edges.total[f] += edges.total[e]
                    edges.place[e] = GONE
                else:
                    mark[other] = e
                    edges.low[e], edges.high[e] = min(a, other), max(a, other)
                    _append(nodes, edges, a, half)
            half = following
    half = nodes.first[a]
    while half >= 0:
        e = half >> 1
        mark[edges.high[e] if edges.low[e] == a else edges.low[e]] = -1
        half = edges.behind[half]


@njit(cache=True, nogil=True)
def _is_before(edges: _Edges, e: int, f: int) -> bool:
    if edges.weight[e] != edges.weight[f]:
        return bool(edges.weight[e] < edges.weight[f])
    if edges.low[e] != edges.low[f]:
        return bool(edges.low[e] < edges.low[f])
    return bool(edges.high[e] < edges.high[f])


@njit(cache=True, nogil=True)
def _swap(edges: _Edges, i: int, j: int) -> None:
    e, f = edges.heap[i], edges.heap[j]
    edges.heap[i], edges.heap[j] = f, e
    edges.place[f], edges.place[e] = i, j


@njit(cache=True, nogil=True)
def _rise(edges: _Edges, i: int) -> None:
    while i > 0:
        above = (i - 1) >> 1
        if not _is_before(edges, edges.heap[i], edges.heap[above]):
            return
        _swap(edges, i, above)
        i = above


@njit(cache=True, nogil=True)
def _sink(edges: _Edges, i: int, size: int) -> None:
    while True:
        child = 2 * i + 1
        if child >= size:
            return
        if child + 1 < size and _is_before(edges, edges.heap[child + 1], edges.heap[child]):
            child += 1
        if not _is_before(edges, edges.heap[child], edges.heap[i]):
            return
        _swap(edges, i, child)
        i = child


@njit(cache=True, nogil=True)
def _remove(edges: _Edges, e: int, size: int) -> int:
    """Take an edge out of the heap; returns its new size."""
    i = edges.place[e]
    last = size - 1
    if i != last:
        _swap(edges, i, last)
        moved = edges.heap[i]
        _rise(edges, i)
        _sink(edges, edges.place[moved], last)
    edges.place[e] = OUT
    return last
