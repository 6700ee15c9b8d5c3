"""The edges of a graph that is merged, and a heap of them: smallest (weight, ends' numbers) first.

Arrays are indexed by slots, one a region, and edges. Half-edges 2 e and 2 e + 1 are of edge e, one
in the list of each of its ends. A slot outlives the region that it began with, for the longer of
two lists stays: `name` tells which region it is.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

#: int32 or, of more than 2^30 edges, int64.
Places: TypeAlias = NDArray[Any]
Longs: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

MEAN_COLOR, WARD, BOUNDARY = 0, 1, 2
#: Places of edges that are not in the heap now, or never again.
OUT, GONE = -1, -2
#: `Edges.seen` of an edge that is in no bucket, and of one whose weight is a lower bound.
NOWHERE, BOUND = -1, -2


class Nodes(NamedTuple):
    """Regions by slot: what they are, the ends of their lists of half-edges, and their hub row."""

    pixels: Longs
    sums: Longs
    name: Places
    degree: Places
    first: Places
    last: Places
    #: Row of `hubs.Hubs`; -1 of a slot that is no hub.
    row: Places


class Edges(NamedTuple):
    """Edges; the last four are those of buckets, see `hubs`."""

    length: Longs
    total: Longs
    weight: Floats
    #: Slot of each half-edge, and the half-edge behind it in the slot's list; -1 at the end.
    end: Places
    behind: Places
    #: Place of each edge in the heap, or OUT, or GONE.
    place: Places
    heap: Places
    #: Entry 0: how many edges the heap holds.
    size: Longs
    seen: NDArray[np.int32]
    key: Floats
    child: Places
    beside: Places


@njit(cache=True, nogil=True)
def weigh(nodes: Nodes, edges: Edges, e: int, step: Floats, rule: int) -> float:
    """The weight of an edge by the sums of its ends."""
    if rule == BOUNDARY:
        return float(step[-1] * (edges.total[e] / (2.0 * edges.length[e])))
    a, b = edges.end[2 * e], edges.end[2 * e + 1]
    n, m = float(nodes.pixels[a]), float(nodes.pixels[b])
    square = 0.0
    for c in range(nodes.sums.shape[1]):
        apart = step[c] * (nodes.sums[a, c] / n - nodes.sums[b, c] / m)
        square += apart * apart
    if rule == WARD:
        return square * (n * m / (n + m))
    return math.sqrt(square)


@njit(cache=True, nogil=True)
def append(nodes: Nodes, edges: Edges, slot: int, half: int) -> None:
    """Put a half-edge behind the others of a slot."""
    edges.behind[half] = -1
    if nodes.first[slot] < 0:
        nodes.first[slot] = half
    else:
        edges.behind[nodes.last[slot]] = half
    nodes.last[slot] = half


@njit(cache=True, nogil=True)
def numbers(nodes: Nodes, edges: Edges, e: int) -> tuple[int, int]:
    """Numbers of the regions at an edge's ends, the smaller first."""
    a, b = nodes.name[edges.end[2 * e]], nodes.name[edges.end[2 * e + 1]]
    return min(a, b), max(a, b)


@njit(cache=True, nogil=True)
def is_before(nodes: Nodes, edges: Edges, e: int, f: int) -> bool:
    """Whether edge e comes out of the heap before f; of equal weights lower bounds come first."""
    if edges.weight[e] != edges.weight[f]:
        return bool(edges.weight[e] < edges.weight[f])
    if edges.seen[e] == BOUND or edges.seen[f] == BOUND:
        return bool(edges.seen[f] != BOUND)
    return bool(numbers(nodes, edges, e) < numbers(nodes, edges, f))


@njit(cache=True, nogil=True)
def add(nodes: Nodes, edges: Edges, e: int) -> None:
    """Put an edge into the heap."""
    edges.size[0] += 1
    _rise(nodes, edges, e, edges.size[0] - 1)


@njit(cache=True, nogil=True)
def remove(nodes: Nodes, edges: Edges, e: int) -> None:
    """Take an edge out of the heap."""
    i = edges.place[e]
    edges.size[0] -= 1
    last = edges.heap[edges.size[0]]
    edges.place[e] = OUT
    if last != e:
        _rise(nodes, edges, last, i)
        sink(nodes, edges, last)


@njit(cache=True, nogil=True)
def reweigh(nodes: Nodes, edges: Edges, e: int, weight: float) -> None:
    """Change the weight of an edge in the heap."""
    if edges.weight[e] != weight:
        edges.weight[e] = weight
        _rise(nodes, edges, e, edges.place[e])
        sink(nodes, edges, e)


@njit(cache=True, nogil=True)
def _rise(nodes: Nodes, edges: Edges, e: int, i: int) -> None:
    """Put an edge at place i or above it."""
    while i > 0:
        above = (i - 1) >> 1
        f = edges.heap[above]
        if not is_before(nodes, edges, e, f):
            break
        edges.heap[i] = f
        edges.place[f] = i
        i = above
    edges.heap[i] = e
    edges.place[e] = i


@njit(cache=True, nogil=True)
def sink(nodes: Nodes, edges: Edges, e: int) -> None:
    """Put an edge where it is or below that."""
    i, size = edges.place[e], edges.size[0]
    while True:
        below = 2 * i + 1
        if below >= size:
            break
        f = edges.heap[below]
        if below + 1 < size and is_before(nodes, edges, edges.heap[below + 1], f):
            below += 1
            f = edges.heap[below]
        if not is_before(nodes, edges, f, e):
            break
        edges.heap[i] = f
        edges.place[f] = i
        i = below
    edges.heap[i] = e
    edges.place[e] = i
