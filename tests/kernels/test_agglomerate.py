"""Merging regions: every merge is that of the definition, with hubs and without."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pipeline.kernels.agglomerate as agglomeration
from pipeline.kernels.agglomerate import BOUNDARY, MEAN_COLOR, WARD, agglomerate

Graph = dict[str, np.ndarray]
RULES = [MEAN_COLOR, WARD, BOUNDARY]


def plain_agglomeration(
    graph: Graph, step: np.ndarray, rule: int, limit: float, regions: int
) -> list[tuple[int, int, float]]:
    """The definition, looking at all edges before every merge."""
    count = [int(n) for n in graph["count"]]
    sums = [[int(v) for v in row] for row in graph["sums"]]
    steps = [float(v) for v in step]
    beside: list[dict[int, list[int]]] = [{} for _ in count]
    rows = zip(*(graph[k].tolist() for k in ("low", "high", "length", "total")), strict=True)
    for a, b, length, total in rows:
        beside[a][b] = beside[b][a] = [length, total]

    def weight(a: int, b: int) -> float:
        if rule == BOUNDARY:
            return steps[-1] * (beside[a][b][1] / (2.0 * beside[a][b][0]))
        square = 0.0
        for c in range(len(sums[a])):
            apart = steps[c] * (sums[a][c] / float(count[a]) - sums[b][c] / float(count[b]))
            square += apart * apart
        n, m = float(count[a]), float(count[b])
        return square * (n * m / (n + m)) if rule == WARD else math.sqrt(square)

    found = []
    while len(count) - len(found) > max(1, regions):
        edges = [(weight(a, b), a, b) for a in range(len(count)) for b in beside[a] if a < b]
        if not edges or not min(edges)[0] < limit:
            break
        value, a, b = min(edges)
        found.append((a, b, value))
        count[a] += count[b]
        sums[a] = [x + y for x, y in zip(sums[a], sums[b], strict=True)]
        del beside[a][b]
        for other, (length, total) in beside[b].items():
            if other != a:
                del beside[other][b]
                entry = beside[a].setdefault(other, [0, 0])
                entry[0] += length
                entry[1] += total
                beside[other][a] = entry
        beside[b] = {}
    return found


def graph_of(pairs: set[tuple[int, int]], size: int, highest: int, seed: int) -> Graph:
    """Regions with few different values, or many, and the edges of some pairs."""
    generator = np.random.default_rng(seed)
    ends = np.array(sorted({(min(p), max(p)) for p in pairs if p[0] != p[1]}), np.int64)
    low, high = ends.reshape(-1, 2).T.copy()
    count = generator.integers(1, 6, size)
    sums = generator.integers(0, highest + 1, (size, 2))
    if generator.random() < 0.5:
        sums *= count[:, None]  # equal means, so equal weights, of different sizes
    length = generator.integers(1, 4, len(low))
    total = generator.integers(0, 9, len(low))
    return {
        "count": count,
        "sums": sums,
        "low": low,
        "high": high,
        "length": length,
        "total": total,
    }


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Any graph, and regions that touch most others."""
    size = draw(st.integers(1, 24))
    number = st.integers(0, size - 1)
    pairs = draw(st.sets(st.tuples(number, number), max_size=3 * size))
    for hub in draw(st.lists(number, max_size=3)):
        pairs |= {(hub, other) for other in range(size)}
    highest = draw(st.sampled_from([0, 1, 3, 50, 5000]))
    return graph_of(pairs, size, highest, draw(st.integers(0, 2**16)))


def merges(graph: Graph, *how: Any) -> list[tuple[int, int, float]]:
    found = agglomerate(*graph.values(), *how)
    return list(zip(*(column.tolist() for column in found), strict=True))


@given(
    graphs(),
    st.sampled_from(RULES),
    st.sampled_from([1, 2, 3, 5, 1000]),
    # Not only steps that make a difference: their squares may be 0 or infinite.
    st.sampled_from(
        [(1.0, 0.5, 0.25), (0.37, 0.1, 1.0), (0.0, 0.0, 0.0), (1e-170, 0, 1), (1e200,) * 3]
    ),
    st.sampled_from([(np.inf, 0), (1.0, 0), (3.0, 0), (np.inf, 3)]),
)
@settings(deadline=None, max_examples=150)
def test_merges_are_those_of_the_definition(
    graph: Graph, rule: int, hub_degree: int, step: tuple[float, ...], end: tuple[float, int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agglomeration, "HUB_DEGREE", hub_degree)
        found = merges(graph, np.array(step), rule, *end)
    assert found == plain_agglomeration(graph, np.array(step), rule, *end)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("highest", [2, 10_000])
@pytest.mark.parametrize("hub", [0, 170, 239])
def test_a_region_that_takes_in_all_others(rule: int, highest: int, hub: int) -> None:
    size = 240
    assert size > agglomeration.HUB_DEGREE
    pairs = {(hub, other) for other in range(size)} | {(k, k + 1) for k in range(0, size - 1, 3)}
    graph = graph_of(pairs, size, highest, hub)
    step = np.array([1.0, 0.5, 0.25])
    found = merges(graph, step, rule, np.inf, 0)
    assert len(found) == size - 1
    assert found == plain_agglomeration(graph, step, rule, np.inf, 0)


@pytest.mark.parametrize("rule", RULES)
def test_its_time_is_not_quadratic(rule: int) -> None:
    """Weighing all edges at each merge took 200 s for this star."""
    size = 40_000
    graph = graph_of({(7, other) for other in range(size)}, size, 10**6, 0)
    graph["count"] = np.full(size, 100)
    graph["count"][7] = 10**9
    graph["sums"][7] = 5 * 10**12
    begun = time.process_time()
    found = merges(graph, np.ones(3), rule, np.inf, 0)
    assert len(found) == size - 1
    assert time.process_time() - begun < 5
