"""Joining two regions of a graph: their sums, lists, parallel edges, and the weights of all."""

from __future__ import annotations

from pipeline.kernels.edge_heap import (
    BOUNDARY,
    GONE,
    NOWHERE,
    Edges,
    Floats,
    Nodes,
    Places,
    Queue,
    add,
    append,
    kernel,
    remove,
    reweigh,
    weigh,
)
from pipeline.kernels.hubs import (
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


@kernel
def promote(
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
            link(nodes, edges, hubs, half)
            link(nodes, edges, hubs, half ^ 1)
            queue.weight[half >> 1] = weigh(nodes, edges, half >> 1, step, rule)
            add(queue, half >> 1)
        else:
            put(nodes, edges, queue, hubs, hub, half, step, rule)
        half = edges.behind[half]
    show_all(nodes, edges, queue, hubs, hub, rule)


@kernel
def join(
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
def join_hub(
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
    _mark_hubs(nodes, edges, hubs, hub, mark)
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
def _mark_hubs(nodes: Nodes, edges: Edges, hubs: Hubs, hub: int, mark: Places) -> None:
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
        link(nodes, edges, hubs, half)
        if not was_hub:
            link(nodes, edges, hubs, half ^ 1)
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
