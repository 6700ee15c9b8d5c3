"""Enclosing objects against the removal of each object from the graph."""

from __future__ import annotations

import networkx
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.kernels.enclosure import enclosers


def by_removal(
    edges: np.ndarray, is_object: np.ndarray, at_border: np.ndarray
) -> tuple[np.ndarray, dict[int, set[int]]]:
    """Outermost encloser of each node: of all objects that cut it off, the one cut off by none."""
    n = len(is_object)
    graph = networkx.Graph([tuple(edge) for edge in edges.tolist()])
    graph.add_nodes_from(range(n + 1))
    graph.add_edges_from((n, int(node)) for node in np.flatnonzero(at_border))
    reached = networkx.node_connected_component(graph, n)
    cut_off = {}
    for node in np.flatnonzero(is_object):
        rest = graph.copy()
        rest.remove_node(node)
        cut_off[int(node)] = reached - networkx.node_connected_component(rest, n) - {int(node)}
    found = np.full(n, -1)
    for node in range(n):
        around = [o for o in cut_off if node in cut_off[o]]
        outermost = [o for o in around if not any(o in cut_off[p] for p in around)]
        if outermost:
            (found[node],) = outermost
    return found, cut_off


@st.composite
def graphs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Connected graphs of up to 12 nodes, with at least one at the border."""
    n = draw(st.integers(1, 12))
    tree = [(draw(st.integers(0, k - 1)), k) for k in range(1, n)]
    more = draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=6))
    edges = sorted({(min(e), max(e)) for e in [*tree, *more] if e[0] != e[1]})
    flags = st.lists(st.booleans(), min_size=n, max_size=n)
    at_border = np.array(draw(flags))
    at_border[draw(st.integers(0, n - 1))] = True
    order = np.array(draw(st.permutations(range(n))))
    edges = order[np.array(edges, np.int64).reshape(-1, 2)]
    return edges, np.array(draw(flags)), at_border


@given(graphs())
@settings(max_examples=400, deadline=None)
def test_equals_the_removal_of_each_object(
    graph: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    expected, _ = by_removal(*graph)
    assert np.array_equal(enclosers(*graph), expected)


def chain(n: int) -> np.ndarray:
    return np.stack([np.arange(n - 1), np.arange(1, n)], axis=1)


def test_the_outermost_object_has_all_that_is_nested() -> None:
    # Background, object, background, object, background: from the border inwards.
    is_object = np.array([False, True, False, True, False])
    at_border = np.array([True, False, False, False, False])
    assert enclosers(chain(5), is_object, at_border).tolist() == [-1, -1, 1, 1, 1]


def test_a_way_around_is_no_enclosure() -> None:
    edges = np.concatenate([chain(3), [[0, 2]]])
    is_object = np.array([False, True, False])
    at_border = np.array([True, False, False])
    assert enclosers(edges, is_object, at_border).tolist() == [-1, -1, -1]


def test_two_objects_together_do_not_enclose() -> None:
    # A hole between two objects that meet: neither of them alone closes it.
    edges = np.array([[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]])
    is_object = np.array([False, True, True, False])
    at_border = np.array([True, False, False, False])
    assert enclosers(edges, is_object, at_border).tolist() == [-1, -1, -1, -1]


def test_an_object_at_the_border_can_enclose_and_is_never_enclosed() -> None:
    is_object = np.array([True, False, True])
    at_border = np.array([True, False, False])
    assert enclosers(chain(3), is_object, at_border).tolist() == [-1, 0, 0]


def test_deep_nesting_needs_no_recursion() -> None:
    n = 200_000
    is_object = np.arange(n) % 2 == 1
    at_border = np.arange(n) == 0
    found = enclosers(chain(n), is_object, at_border)
    assert found[:2].tolist() == [-1, -1]
    assert np.all(found[2:] == 1)


def test_one_region_alone() -> None:
    empty = np.empty((0, 2), np.int64)
    assert enclosers(empty, np.array([True]), np.array([True])).tolist() == [-1]
