"""Disjoint sets against the components of a graph."""

from __future__ import annotations

import networkx
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.kernels.unionfind import DisjointSets

PAIRS = st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=40)


def names(pairs: list[tuple[int, int]], count: int = 30) -> np.ndarray:
    sets = DisjointSets(count)
    for begin in range(0, len(pairs), 7):
        some = np.array(pairs[begin : begin + 7], np.int64)
        sets.unite(some[:, 0], some[:, 1])
    return sets.names()


@given(PAIRS)
def test_sets_are_named_by_their_smallest_member(pairs: list[tuple[int, int]]) -> None:
    graph = networkx.Graph(pairs)
    graph.add_nodes_from(range(30))
    expected = np.empty(30, int)
    for members in networkx.connected_components(graph):
        expected[list(members)] = min(members)
    assert np.array_equal(names(pairs), expected)


@given(PAIRS, st.randoms(use_true_random=False))
def test_the_order_and_direction_of_pairs_do_not_matter(
    pairs: list[tuple[int, int]], random: object
) -> None:
    turned = [pair[::-1] for pair in pairs]
    random.shuffle(turned)
    assert np.array_equal(names(turned), names(pairs))


def test_a_long_chain_is_one_set() -> None:
    n = 100_000
    sets = DisjointSets(n)
    sets.unite(np.arange(n - 1, 0, -1), np.arange(n - 2, -1, -1))
    assert not sets.names().any()


def test_names_can_be_asked_for_between_unions() -> None:
    sets = DisjointSets(4)
    before = sets.names()
    sets.unite(np.array([3]), np.array([2]))
    assert sets.names().tolist() == [0, 1, 2, 2]
    sets.unite(np.array([0]), np.array([3]))
    assert sets.names().tolist() == [0, 1, 0, 0]
    assert before.tolist() == [0, 1, 2, 3]


def test_no_nodes() -> None:
    sets = DisjointSets(0)
    sets.unite(np.empty(0, np.int64), np.empty(0, np.int64))
    assert len(sets.names()) == 0
