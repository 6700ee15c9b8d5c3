"""Edges of hubs, regions of many neighbours, which are not weighed anew at every merge.

When a hub takes in a small region, the weights of all its edges change, but hardly. An edge waits
in a bucket of its hub with the weight that it had; the way that the hub's mean has gone since, its
drift, tells by how much the weight can be less now. Only an edge whose lower bound is the smallest
of all weights is weighed anew, until the smallest is a weight and no bound.

Let v be the weight, or its root for Ward, and D the drift when an edge was weighed. For a distance
of means v can fall by no more than the drift since (the triangle inequality). Ward's weight is
n m / (n + m) times its square, and the factor does not fall while the hub grows: v falls by no more
than s times the drift, s the root of the factor. A bucket holds the edges of the same s, rounded up
to a power of two. Its order is that of key = v + s D, whatever the drift now, and key - s D(now) is
the bound. A boundary's weight does not depend on the hub's mean: nothing drifts.

An edge weighed since the hub last changed is fresh: its weight is exact. The drift grows by more
than all errors of rounding at each change, so an edge that is not fresh and comes behind a
fresh one weighs strictly more. Among fresh ones numbers decide ties, as everywhere.

A bucket is a pairing heap. Edges between two hubs are in none: they are weighed at every change.

References
----------
Fredman, Sedgewick, Sleator, Tarjan, "The pairing heap: a new form of self-adjusting heap",
Algorithmica 1:111-129 (1986). DOI:10.1007/BF01840439
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels.edge_heap import (
    BOUND,
    BOUNDARY,
    GONE,
    NOWHERE,
    WARD,
    Edges,
    Floats,
    Longs,
    Nodes,
    Places,
    Queue,
    add,
    kernel,
    remove,
    weigh,
)

#: Buckets of a hub under Ward's rule: one of the weight 0, one for each s = 2^0..2^31.
WARD_KINDS = 33


#: The drift grows by this part of itself at each change, for its own rounding.
GROWTH = 16 * 2.0**-52


class Hubs(NamedTuple):
    """Hubs by row; the first four have an entry for each kind of bucket."""

    #: First edge of the bucket, and the one of it that is in the heap; -1 if there is none.
    root: Places
    shown: Places
    #: What `Queue.seen` is of a fresh edge.
    version: NDArray[np.int32]
    drift: Floats
    #: First half-edge of the list of those to other hubs, which goes on in `Edges.beside`.
    first: Places
    #: How many rows were ever used, how many are free now, and which.
    free: Longs


@kernel
def slope(kind: int) -> float:
    """The s of a bucket; kind 0 is that of distances, and of Ward's weights that are 0."""
    return float(2.0 ** max(kind - 1, 0))


@kernel
def open_row(nodes: Nodes, hubs: Hubs, hub: int) -> int:
    """Make a slot a hub without edges; returns its row."""
    if hubs.free[1] > 0:
        row = hubs.free[1 + hubs.free[1]]
        hubs.free[1] -= 1
    else:
        row = hubs.free[0]
        hubs.free[0] += 1
    nodes.row[hub] = row
    hubs.root[row] = hubs.shown[row] = hubs.first[row] = -1
    hubs.version[row] = 0
    hubs.drift[row] = 0.0
    return int(row)


@kernel
def close_row(nodes: Nodes, hubs: Hubs, hub: int) -> None:
    """Let a row be used again; what its buckets hold is forgotten."""
    hubs.free[1] += 1
    hubs.free[1 + hubs.free[1]] = nodes.row[hub]
    nodes.row[hub] = -1


@kernel
def take_in(
    nodes: Nodes, hubs: Hubs, hub: int, slot: int, step: Floats, rule: int, error: float
) -> None:
    """Add a region to a hub; `error` is more than that of rounding in any two weights."""
    n, m = float(nodes.pixels[hub]), float(nodes.pixels[hub] + nodes.pixels[slot])
    square, is_moved = 0.0, False
    for c in range(nodes.sums.shape[1]):
        old = nodes.sums[hub, c] / n
        nodes.sums[hub, c] += nodes.sums[slot, c]
        new = nodes.sums[hub, c] / m
        is_moved |= new != old
        square += (step[c] * (new - old)) ** 2
    nodes.pixels[hub] += nodes.pixels[slot]
    if rule == BOUNDARY:
        return
    row, way = nodes.row[hub], math.sqrt(square) + error
    # What weighs 0 does so while the mean stays, and so does a distance what it does.
    for kind in range(0 if is_moved else 1, hubs.root.shape[1]):
        hubs.version[row, kind] += 1
        hubs.drift[row, kind] = (hubs.drift[row, kind] + way) * (1.0 + GROWTH)


@kernel
def put(
    nodes: Nodes,
    edges: Edges,
    queue: Queue,
    hubs: Hubs,
    hub: int,
    half: int,
    step: Floats,
    rule: int,
) -> int:
    """Weigh the edge of a hub's half-edge, put it into its bucket, and return the kind of that."""
    e, row = half >> 1, nodes.row[hub]
    weight = weigh(nodes, edges, e, step, rule)
    kind, value = 0, weight
    if rule == WARD and weight > 0.0:
        n, m = float(nodes.pixels[hub]), float(nodes.pixels[edges.end[half ^ 1]])
        power = math.frexp(n * m / (n + m))[1]
        kind = min(max((power + 1) >> 1, 0) + 1, WARD_KINDS - 1)
        value = math.sqrt(weight)
    queue.weight[e] = weight
    edges.key[e] = value + slope(kind) * hubs.drift[row, kind]
    queue.seen[e] = hubs.version[row, kind]
    edges.child[e] = edges.beside[2 * e] = edges.beside[2 * e + 1] = -1
    root = hubs.root[row, kind]
    hubs.root[row, kind] = e if root < 0 else _meld(nodes, edges, queue, root, e)
    return kind


@kernel
def show(
    nodes: Nodes, edges: Edges, queue: Queue, hubs: Hubs, hub: int, kind: int, rule: int
) -> None:
    """Keep the first edge of a bucket in the heap: by its weight, or by the bound of it."""
    row = nodes.row[hub]
    root, shown = hubs.root[row, kind], hubs.shown[row, kind]
    if root == shown:
        return
    if shown >= 0:
        remove(queue, shown)
    hubs.shown[row, kind] = root
    if root < 0:
        return
    if queue.seen[root] != hubs.version[row, kind]:
        bound = max(edges.key[root] - slope(kind) * hubs.drift[row, kind], 0.0)
        queue.weight[root] = bound * bound if rule == WARD else bound
        queue.seen[root] = BOUND
    add(queue, root)


@kernel
def show_all(nodes: Nodes, edges: Edges, queue: Queue, hubs: Hubs, hub: int, rule: int) -> None:
    for kind in range(hubs.root.shape[1]):
        show(nodes, edges, queue, hubs, hub, kind, rule)


@kernel
def hide(nodes: Nodes, edges: Edges, queue: Queue, hubs: Hubs, hub: int) -> None:
    """Take all edges of a hub out of the heap, for it will change."""
    row = nodes.row[hub]
    for kind in range(hubs.root.shape[1]):
        if hubs.shown[row, kind] >= 0:
            remove(queue, hubs.shown[row, kind])
            hubs.shown[row, kind] = -1
    half, hubs.first[row] = hubs.first[row], -1
    while half >= 0:
        following, e = edges.beside[half], half >> 1
        if queue.place[e] != GONE:
            remove(queue, e)
            link(nodes, edges, hubs, half)
        half = following


@kernel
def link(nodes: Nodes, edges: Edges, hubs: Hubs, half: int) -> None:
    """Put a half-edge that leads to another hub into the list of those."""
    row = nodes.row[edges.end[half]]
    edges.beside[half] = hubs.first[row]
    hubs.first[row] = half


@kernel
def detach(nodes: Nodes, edges: Edges, queue: Queue, hubs: Hubs, e: int, rule: int) -> None:
    """Take an edge out of its bucket or the heap."""
    if queue.seen[e] == NOWHERE:
        if queue.place[e] >= 0:
            remove(queue, e)
        return
    before, behind = edges.beside[2 * e + 1], edges.beside[2 * e]
    rest = _pair(nodes, edges, queue, edges.child[e])
    if before < 0:
        hub = edges.end[hub_half(nodes, edges, e)]
        row, kind = nodes.row[hub], 0
        while hubs.root[row, kind] != e:
            kind += 1
        hubs.root[row, kind] = rest
        if hubs.shown[row, kind] == e:
            show(nodes, edges, queue, hubs, hub, kind, rule)
    else:
        # What was below the edge takes its place.
        if rest >= 0:
            edges.beside[2 * rest] = behind
            edges.beside[2 * rest + 1] = before
            if behind >= 0:
                edges.beside[2 * behind + 1] = rest
        elif behind >= 0:
            edges.beside[2 * behind + 1] = before
        following = rest if rest >= 0 else behind
        if edges.child[before] == e:
            edges.child[before] = following
        else:
            edges.beside[2 * before] = following
    queue.seen[e] = NOWHERE


@kernel
def hub_half(nodes: Nodes, edges: Edges, e: int) -> int:
    """The half-edge, of an edge in a bucket, that is the hub's."""
    return 2 * e if nodes.row[edges.end[2 * e]] >= 0 else 2 * e + 1


@kernel
def _is_first(nodes: Nodes, edges: Edges, queue: Queue, e: int, f: int) -> bool:
    if edges.key[e] != edges.key[f]:
        return bool(edges.key[e] < edges.key[f])
    if queue.seen[e] != queue.seen[f]:
        return bool(queue.seen[e] > queue.seen[f])
    if queue.weight[e] != queue.weight[f]:
        return bool(queue.weight[e] < queue.weight[f])
    # One end is the same hub's, so the other ends' numbers order the edges as both do.
    a = nodes.name[edges.end[hub_half(nodes, edges, e) ^ 1]]
    b = nodes.name[edges.end[hub_half(nodes, edges, f) ^ 1]]
    return bool(a < b)


@kernel
def _meld(nodes: Nodes, edges: Edges, queue: Queue, e: int, f: int) -> int:
    """Make one heap of two; returns its first edge."""
    if _is_first(nodes, edges, queue, f, e):
        e, f = f, e
    child = edges.child[e]
    edges.beside[2 * f] = child
    edges.beside[2 * f + 1] = e
    if child >= 0:
        edges.beside[2 * child + 1] = f
    edges.child[e] = f
    return e


@kernel
def _pair(nodes: Nodes, edges: Edges, queue: Queue, first: int) -> int:
    """Make one heap of those beside each other: in pairs, then all, from the last to the first."""
    pairs = -1
    while first >= 0:
        second = edges.beside[2 * first]
        following = edges.beside[2 * second] if second >= 0 else -1
        pair = first if second < 0 else _meld(nodes, edges, queue, first, second)
        edges.beside[2 * pair] = pairs
        pairs, first = pair, following
    root = -1
    while pairs >= 0:
        following = edges.beside[2 * pairs]
        root = pairs if root < 0 else _meld(nodes, edges, queue, root, pairs)
        pairs = following
    if root >= 0:
        edges.beside[2 * root] = edges.beside[2 * root + 1] = -1
    return root
