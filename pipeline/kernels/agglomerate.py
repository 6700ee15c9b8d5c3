"""Merging the regions of a graph, the closest two first.

The edge of smallest (weight, smaller end, larger end) is merged, and the smaller number stays. Its
sums are the sums of both, parallel edges become one, and the weights of all its edges are made
anew from the sums. Numbers follow the regions' first pixels, so the order is that of the image, and
whole numbers make weights independent of how the regions came about.
"""

from __future__ import annotations

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
    add,
    append,
    kernel,
    numbers,
    remove,
    reweigh,
    sink,
    weigh,
)
from pipeline.kernels.hubs import (
    WARD_KINDS,
    Hubs,
    close_row,
    detach,
    hide,
    hub_half,
    link,
    open_row,
    put,
    show,
    show_all,
    take_in,
)

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
    largest = float(np.sqrt((means.max(axis=0, initial=0.0) ** 2).sum()))
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
            _join_hub(nodes, edges, queue, hubs, a, b, mark, step, rule, error)
        else:
            _join(nodes, edges, queue, hubs, a, b, mark, step, rule)
            if nodes.degree[a] >= hub_degree:
                _promote(nodes, edges, queue, hubs, a, step, rule)
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
            _promote(nodes, edges, queue, hubs, slot, step, rule)


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
    show(
        nodes, edges, queue, hubs, hub, put(nodes, edges, queue, hubs, hub, half, step, rule), rule
    )


@kernel
def _promote(
    nodes: Nodes, edges: Edges, queue: Queue, hubs: Hubs, hub: int, step: Floats, rule: int
) -> None:
    """Make a region a hub."""
    half = nodes.first[hub]
    while half >= 0:
        detach(nodes, edges, queue, hubs, half >> 1, rule)
        half = edges.behind[half]
    open_row(nodes, hubs, hub)
    half = nodes.first[hub]
    while half >= 0:
        if nodes.row[edges.end[half ^ 1]] >= 0:
            link(nodes, edges, queue, hubs, half)
            link(nodes, edges, queue, hubs, half ^ 1)
            queue.weight[half >> 1] = weigh(nodes, edges, half >> 1, step, rule)
            add(queue, half >> 1)
        else:
            put(nodes, edges, queue, hubs, hub, half, step, rule)
        half = edges.behind[half]
    show_all(nodes, edges, queue, hubs, hub, rule)


@kernel
def _join(
    nodes: Nodes,
    edges: Edges,
    queue: Queue,
    hubs: Hubs,
    a: int,
    b: int,
    mark: Places,
    step: Floats,
    rule: int,
) -> None:
    """Make region `b` a part of `a`; neither is a hub, and a's number is the smaller one."""
    row, end, behind, place, seen = nodes.row, edges.end, edges.behind, queue.place, queue.seen
    nodes.pixels[a] += nodes.pixels[b]
    for c in range(nodes.sums.shape[1]):
        nodes.sums[a, c] += nodes.sums[b, c]
    lists = (nodes.first[a], nodes.first[b])
    nodes.first[a] = nodes.last[a] = -1
    degree = 0
    for turn in range(2):
        half = lists[turn]
        while half >= 0:
            following, e = behind[half], half >> 1
            if place[e] != GONE:
                other = end[half ^ 1]
                # b's are out of the heap while they change their numbers or end.
                if seen[e] != NOWHERE:
                    detach(nodes, edges, queue, hubs, e, rule)
                elif turn == 1:
                    remove(queue, e)
                if mark[other] >= 0:
                    _unite(nodes, edges, queue, mark[other], e, other)
                else:
                    mark[other] = e
                    end[half] = a
                    append(nodes, edges, a, half)
                    degree += 1
            half = following
    nodes.degree[a] = degree
    half = nodes.first[a]
    while half >= 0:
        e, other = half >> 1, end[half ^ 1]
        mark[other] = -1
        if row[other] >= 0:
            kind = put(nodes, edges, queue, hubs, other, half ^ 1, step, rule)
            show(nodes, edges, queue, hubs, other, kind, rule)
        else:
            weight = weigh(nodes, edges, e, step, rule)
            if place[e] >= 0:
                reweigh(queue, e, weight)
            else:
                queue.weight[e] = weight
                add(queue, e)
        half = behind[half]


@kernel
def _unite(nodes: Nodes, edges: Edges, queue: Queue, f: int, e: int, other: int) -> None:
    """Make edge e, which is in no heap, a part of edge f; both lead to `other`."""
    edges.length[f] += edges.length[e]
    edges.total[f] += edges.total[e]
    queue.place[e] = GONE
    nodes.degree[other] -= 1


@kernel
def _join_hub(
    nodes: Nodes,
    edges: Edges,
    queue: Queue,
    hubs: Hubs,
    hub: int,
    slot: int,
    mark: Places,
    step: Floats,
    rule: int,
    error: float,
) -> None:
    """Make a region, which may be a hub, a part of a hub whose list is longer."""
    hide(nodes, edges, queue, hubs, hub)
    if nodes.row[slot] >= 0:
        hide(nodes, edges, queue, hubs, slot)
    take_in(nodes, hubs, hub, slot, step, rule, error)
    nodes.name[hub] = min(nodes.name[hub], nodes.name[slot])
    nodes.degree[hub] -= 1
    _mark_hubs(nodes, edges, queue, hubs, hub, mark)
    half = nodes.first[slot]
    while half >= 0:
        following = edges.behind[half]
        if queue.place[half >> 1] != GONE:
            _hand_over(nodes, edges, queue, hubs, hub, half, mark, step, rule)
        half = following
    if nodes.row[slot] >= 0:
        close_row(nodes, hubs, slot)
    half = hubs.first[nodes.row[hub]]
    while half >= 0:
        e = half >> 1
        mark[edges.end[half ^ 1]] = -1
        queue.weight[e] = weigh(nodes, edges, e, step, rule)
        add(queue, e)
        half = edges.beside[half]
    show_all(nodes, edges, queue, hubs, hub, rule)


@kernel
def _mark_hubs(
    nodes: Nodes, edges: Edges, queue: Queue, hubs: Hubs, hub: int, mark: Places
) -> None:
    half = hubs.first[nodes.row[hub]]
    while half >= 0:
        mark[edges.end[half ^ 1]] = half >> 1
        half = edges.beside[half]


@kernel
def _hand_over(
    nodes: Nodes,
    edges: Edges,
    queue: Queue,
    hubs: Hubs,
    hub: int,
    half: int,
    mark: Places,
    step: Floats,
    rule: int,
) -> None:
    """Make an edge of a region one of the hub that takes it in."""
    e, slot, other = half >> 1, edges.end[half], edges.end[half ^ 1]
    was_hub, leads_to_hub = nodes.row[slot] >= 0, nodes.row[other] >= 0
    if not was_hub:
        detach(nodes, edges, queue, hubs, e, rule)
    queue.seen[e] = NOWHERE
    known = mark[other] if leads_to_hub else _half_to(nodes, edges, queue, other, hub) >> 1
    if known >= 0:
        _unite(nodes, edges, queue, known, e, other)
        if rule == BOUNDARY and not leads_to_hub:
            detach(nodes, edges, queue, hubs, known, rule)
            put(nodes, edges, queue, hubs, hub, hub_half(nodes, edges, known), step, rule)
        return
    edges.end[half] = hub
    append(nodes, edges, hub, half)
    nodes.degree[hub] += 1
    if leads_to_hub:
        link(nodes, edges, queue, hubs, half)
        if not was_hub:
            link(nodes, edges, queue, hubs, half ^ 1)
    else:
        put(nodes, edges, queue, hubs, hub, half, step, rule)


@kernel
def _half_to(nodes: Nodes, edges: Edges, queue: Queue, slot: int, hub: int) -> int:
    """The half-edge of a region that leads to a hub, or -1; edges that are gone leave its list."""
    half = nodes.first[slot]
    before = -1
    while half >= 0:
        following = edges.behind[half]
        if queue.place[half >> 1] == GONE:
            if before < 0:
                nodes.first[slot] = following
            else:
                edges.behind[before] = following
            if following < 0:
                nodes.last[slot] = before
        elif edges.end[half ^ 1] == hub:
            return int(half)
        else:
            before = half
        half = following
    return -1
