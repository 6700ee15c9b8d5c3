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
#: `Queue.seen` of an edge that is in no bucket, and of one whose weight is a lower bound.
NOWHERE, BOUND = -1, -2


#: For functions that make no arrays: the references to those in the tuples are not counted, which
#: took half of the time. It is the option by which Numba compiles its own sorting.
kernel = njit(cache=True, nogil=True, _nrt=False)


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


class Queue(NamedTuple):
    """A heap of edges, and what their order depends on."""

    weight: Floats
    #: Place of each edge in the heap, or OUT, or GONE.
    place: Places
    #: What each edge is in its bucket, see `hubs`.
    seen: NDArray[np.int32]
    #: Slot of each half-edge, and number of each slot's region: `Edges.end` and `Nodes.name`.
    end: Places
    name: Places
    heap: Places
    #: Entry 0: how many edges the heap holds.
    size: Longs


class Edges(NamedTuple):
    """Edges; the last three arrays are those of buckets, see `hubs`."""

    length: Longs
    total: Longs
    #: Slot of each half-edge, and the half-edge behind it in the slot's list; -1 at the end.
    end: Places
    behind: Places
    key: Floats
    child: Places
    beside: Places


@kernel
def weigh(nodes: Nodes, edges: Edges, e: int, step: Floats, rule: int) -> float:
    """The weight of an edge by the sums of its ends."""
    if rule == BOUNDARY:
        return float(step[-1] * (edges.total[e] / (2.0 * edges.length[e])))
    a, b = edges.end[2 * e], edges.end[2 * e + 1]
    n, m = float(nodes.pixels[a]), float(nodes.pixels[b])
    sums, square = nodes.sums, 0.0
    for c in range(sums.shape[1]):
        apart = step[c] * (sums[a, c] / n - sums[b, c] / m)
        square += apart * apart
    if rule == WARD:
        return square * (n * m / (n + m))
    return math.sqrt(square)


@kernel
def append(nodes: Nodes, edges: Edges, slot: int, half: int) -> None:
    """Put a half-edge behind the others of a slot."""
    edges.behind[half] = -1
    if nodes.first[slot] < 0:
        nodes.first[slot] = half
    else:
        edges.behind[nodes.last[slot]] = half
    nodes.last[slot] = half


@kernel
def numbers(queue: Queue, e: int) -> tuple[int, int]:
    """Numbers of the regions at an edge's ends, the smaller first."""
    a, b = queue.name[queue.end[2 * e]], queue.name[queue.end[2 * e + 1]]
    return min(a, b), max(a, b)


@kernel
def is_before(queue: Queue, e: int, f: int) -> bool:
    """Whether edge e comes out of the heap before f, which weighs the same; bounds come first."""
    if queue.seen[e] == BOUND or queue.seen[f] == BOUND:
        return bool(queue.seen[f] != BOUND)
    return bool(numbers(queue, e) < numbers(queue, f))


@kernel
def add(queue: Queue, e: int) -> None:
    """Put an edge into the heap."""
    queue.size[0] += 1
    _rise(queue, e, queue.size[0] - 1)


@kernel
def remove(queue: Queue, e: int) -> None:
    """Take an edge out of the heap."""
    i = queue.place[e]
    queue.size[0] -= 1
    last = queue.heap[queue.size[0]]
    queue.place[e] = OUT
    if last != e:
        _rise(queue, last, i)
        sink(queue, last)


@kernel
def reweigh(queue: Queue, e: int, weight: float) -> None:
    """Change the weight of an edge in the heap."""
    before, queue.weight[e] = queue.weight[e], weight
    if weight < before:
        _rise(queue, e, queue.place[e])
    elif weight > before:
        sink(queue, e)


@kernel
def _rise(queue: Queue, e: int, i: int) -> None:
    """Put an edge at place i or above it."""
    heap, place, weight = queue.heap, queue.place, queue.weight
    own = weight[e]
    while i > 0:
        above = (i - 1) >> 1
        f = heap[above]
        if own > weight[f] or (own == weight[f] and not is_before(queue, e, f)):
            break
        heap[i] = f
        place[f] = i
        i = above
    heap[i] = e
    place[e] = i


@kernel
def sink(queue: Queue, e: int) -> None:
    """Put an edge where it is or below that."""
    heap, place, weight = queue.heap, queue.place, queue.weight
    own, i, size = weight[e], place[e], queue.size[0]
    while True:
        below = 2 * i + 1
        if below >= size:
            break
        f = heap[below]
        if below + 1 < size:
            g = heap[below + 1]
            if weight[g] < weight[f] or (weight[g] == weight[f] and is_before(queue, g, f)):
                below, f = below + 1, g
        if own < weight[f] or (own == weight[f] and not is_before(queue, f, e)):
            break
        heap[i] = f
        place[f] = i
        i = below
    heap[i] = e
    place[e] = i
