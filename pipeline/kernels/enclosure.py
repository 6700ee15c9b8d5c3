"""Which objects enclose what: holes as a property of the graph of regions.

Nodes are whole objects and whole background regions, edges join nodes that share a face, and one
more node, the outside, is joined to all that touch the frame's border. An object encloses a node
if every path from the outside to the node passes through the object: the object is an
articulation point that separates them. One depth-first search finds them all.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def _search(
    heads: NDArray[np.int64],
    targets: NDArray[np.int64],
    is_object: NDArray[np.bool_],
    root: int,
    encloser: NDArray[np.int64],
) -> None:
    n = len(heads) - 1
    seen = np.full(n, -1, np.int64)
    low = np.zeros(n, np.int64)
    parent = np.full(n, -1, np.int64)
    cursor = heads[:n].copy()
    order = np.empty(n, np.int64)
    count = 0
    stack = np.empty(n, np.int64)
    top = 0
    stack[0] = root
    seen[root] = 0
    order[0] = root
    count = 1
    while top >= 0:
        v = stack[top]
        if cursor[v] < heads[v + 1]:
            w = targets[cursor[v]]
            cursor[v] += 1
            if seen[w] < 0:
                seen[w] = count
                low[w] = count
                order[count] = w
                count += 1
                parent[w] = v
                top += 1
                stack[top] = w
            else:
                low[v] = min(low[v], seen[w])
        else:
            top -= 1
            if top >= 0:
                u = stack[top]
                low[u] = min(low[u], low[v])
    for k in range(1, count):
        w = order[k]
        v = parent[w]
        if encloser[v] >= 0:
            encloser[w] = encloser[v]
        elif is_object[v] and low[w] >= seen[v]:
            encloser[w] = v


def enclosers(
    edges: NDArray[np.int64], is_object: NDArray[np.bool_], at_border: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """For every node the outermost object that encloses it, -1 where there is none.

    Parameters
    ----------
    edges : ndarray of shape (m, 2), int64
        Pairs of nodes 0..n-1 that share a face.
    is_object, at_border : ndarray of shape (n,), bool

    References
    ----------
    Hopcroft and Tarjan, Algorithm 447: efficient algorithms for graph manipulation, 1973,
    doi:10.1145/362248.362272
    """
    n = len(is_object)
    rim = np.flatnonzero(at_border)
    a = np.concatenate([edges[:, 0], edges[:, 1], np.full(len(rim), n), rim])
    b = np.concatenate([edges[:, 1], edges[:, 0], rim, np.full(len(rim), n)])
    order = np.lexsort((b, a))
    heads = np.concatenate([[0], np.cumsum(np.bincount(a, minlength=n + 1))]).astype(np.int64)
    found = np.full(n + 1, -1, np.int64)
    _search(heads, b[order].astype(np.int64), np.append(is_object, False), n, found)
    return found[:n]
