"""Merging the regions of a graph, the closest two first.

The edge of smallest (weight, smaller end, larger end) is merged, and the smaller number stays. Its
sums are the sums of both, parallel edges become one, and the weights of all its edges are made
anew from the sums. Numbers follow the regions' first pixels, so the order is that of the image, and
whole numbers make weights independent of how the regions came about.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from pipeline.kernels.edge_heap import (
    BOUND,
    BOUNDARY,
    GONE,
    MEAN_COLOR,
    NOWHERE,
    WARD,
    Edges,
    Floats,
    Longs,
    Nodes,
    Places,
    Queue,
    append,
    kernel,
    numbers,
    sink,
    weigh,
)
from pipeline.kernels.hubs import (
    WARD_KINDS,
    Hubs,
    detach,
    hub_half,
    put,
    show,
)
from pipeline.kernels.region_joins import join, join_hub, promote

__all__ = ["BOUNDARY", "MEAN_COLOR", "WARD", "Merges", "agglomerate"]

#: A region of this many neighbours becomes a hub.
HUB_DEGREE = 128
#: Squares of smaller numbers are rounded to 0, those of larger ones may be infinite.
TINY, HUGE = 1e-150, 1e120


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
    sums = np.ascontiguousarray(sums).copy()
    small = 2 * len(low) <= np.iinfo(np.int32).max
    places = np.int32 if small else np.int64
    nodes = _nodes(count, sums, places)
    edges, queue = _edges(nodes, low, high, length, total, places)
    error = _rounding(count, sums, step)
    # Nothing can be said of weights that are not finite.
    hub_degree = HUB_DEGREE if error < HUGE else 2 * len(low) + 1
    hubs = _hubs(2 * len(low) // hub_degree, WARD_KINDS if rule == WARD else 1, places)
    done = _agglomerate(
        nodes, edges, queue, hubs, step, rule, limit, hub_degree, error, kept, gone, weight
    )
    return Merges(kept[:done].copy(), gone[:done].copy(), weight[:done].copy())


def _nodes(count: Longs, sums: Longs, places: type) -> Nodes:
    size = len(count)
    return Nodes(
        count.copy(),
        sums,
        np.arange(size, dtype=places),
        np.zeros(size, places),
        *(np.full(size, -1, places) for _ in range(3)),
    )


def _edges(
    nodes: Nodes, low: Longs, high: Longs, length: Longs, total: Longs, places: type
) -> tuple[Edges, Queue]:
    size = len(low)
    end: Places = np.stack([low, high], axis=1).astype(places).ravel()
    queue = Queue(
        np.empty(size, np.float64),
        np.arange(size, dtype=places),
        np.full(size, NOWHERE, np.int32),
        end,
        nodes.name,
        np.arange(size, dtype=places),
        np.array([size]),
    )
    edges = Edges(
        length.copy(),
        total.copy(),
        end,
        np.empty(2 * size, places),
        np.empty(size, np.float64),
        np.empty(size, places),
        np.empty(2 * size, places),
    )
    return edges, queue


def _hubs(rows: int, kinds: int, places: type) -> Hubs:
    """Rows for as many hubs as there can be at once: each began with so many half-edges."""
    return Hubs(
        np.empty((rows, kinds), places),
        np.empty((rows, kinds), places),
        np.empty((rows, kinds), np.int32),
        np.empty((rows, kinds), np.float64),
        np.empty(rows, places),
        np.zeros(rows + 2, np.int64),
    )


def _rounding(count: Longs, sums: Longs, step: Floats) -> float:
    """More than the errors of rounding of two weights and of a way, by the largest mean."""
    channels = sums.shape[1]
    means = np.abs(sums) / np.maximum(count, 1)[:, None] * np.abs(step[:channels])
    largest = math.hypot(*means.max(axis=0, initial=0.0))
    return float(max(32 * (5 + channels) * 2.0**-52 * largest, TINY))


@njit(cache=True, nogil=True)
def _agglomerate(
    nodes: Nodes,
    edges: Edges,
    queue: Queue,
    hubs: Hubs,
    step: Floats,
    rule: int,
    limit: float,
    hub_degree: int,
    error: float,
    kept: Longs,
    gone: Longs,
    weight: Floats,
) -> int:
    _begin(nodes, edges, queue, hubs, step, rule, hub_degree)
    mark = np.full(nodes.name.size, -1, nodes.name.dtype)  # the edge that leads to each neighbour
    done = 0
    while queue.size[0] > 0 and done < kept.size:
        e = queue.heap[0]
        if not queue.weight[e] < limit:
            break
        if queue.seen[e] == BOUND:
            _renew(nodes, edges, queue, hubs, e, step, rule)
            continue
        kept[done], gone[done] = numbers(queue, e)
        weight[done] = queue.weight[e]
        done += 1
        detach(nodes, edges, queue, hubs, e, rule)
        queue.place[e] = GONE
        a, b = edges.end[2 * e], edges.end[2 * e + 1]
        if _stays(nodes, b, a):
            a, b = b, a
        if nodes.row[a] >= 0:
            join_hub(nodes, edges, queue, hubs, a, b, mark, step, rule, error)
        else:
            join(nodes, edges, queue, hubs, a, b, mark, step, rule)
            if nodes.degree[a] >= hub_degree:
                promote(nodes, edges, queue, hubs, a, step, rule)
    return done


@kernel
def _begin(
    nodes: Nodes, edges: Edges, queue: Queue, hubs: Hubs, step: Floats, rule: int, hub_degree: int
) -> None:
    """Make the lists, the heap and the first hubs."""
    for e in range(edges.length.size):
        for half in (2 * e, 2 * e + 1):
            append(nodes, edges, edges.end[half], half)
            nodes.degree[edges.end[half]] += 1
        queue.weight[e] = weigh(nodes, edges, e, step, rule)
    for k in range(queue.size[0] // 2 - 1, -1, -1):
        sink(queue, queue.heap[k])
    for slot in range(nodes.name.size):
        if nodes.degree[slot] >= hub_degree:
            promote(nodes, edges, queue, hubs, slot, step, rule)


@kernel
def _stays(nodes: Nodes, a: int, b: int) -> bool:
    """Whether slot a stays: a hub, that of more edges; else the smaller number."""
    if nodes.row[a] >= 0 and nodes.row[b] >= 0:
        return bool(nodes.degree[a] > nodes.degree[b])
    if nodes.row[a] >= 0 or nodes.row[b] >= 0:
        return bool(nodes.row[a] >= 0)
    return bool(nodes.name[a] < nodes.name[b])


@kernel
def _renew(
    nodes: Nodes, edges: Edges, queue: Queue, hubs: Hubs, e: int, step: Floats, rule: int
) -> None:
    """Weigh an edge that stands in the heap by its bound."""
    half = hub_half(nodes, edges, e)
    hub = edges.end[half]
    detach(nodes, edges, queue, hubs, e, rule)
    kind = put(nodes, edges, queue, hubs, hub, half, step, rule)
    show(nodes, edges, queue, hubs, hub, kind, rule)
