"""A lower bound of the multicut, from cycles with one repelling edge.

No partition cuts the repelling edge of such a cycle and none of its attracting ones: it pays at
least the smallest amount on the cycle. Cycles that share no part of any amount are packed, shortest
first, so all their amounts add up.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import sparse

#: Longest way of attracting edges that is looked for, in edges.
LONGEST = 4


def pack_cycles(
    count: int,
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    costs: NDArray[np.int64],
) -> int:
    """What every partition costs at least above the sum of all negative costs.

    Parameters
    ----------
    count : int
        Number of nodes.
    low, high : ndarray of shape (E,), int64
        Ends of every edge; no two edges have both in common.
    costs : ndarray of shape (E,), int64
        Above 0: attracting, below 0: repelling.

    References
    ----------
    Lange, Karrenbauer, Andres, Partial optimality and fast lower bounds for weighted correlation
    clustering, ICML 2018
    """
    attracting = np.flatnonzero(costs > 0)
    repelling = np.flatnonzero(costs < 0)
    if len(attracting) == 0 or len(repelling) == 0:
        return 0
    ends = (
        np.concatenate([low[attracting], high[attracting]]),
        np.concatenate([high[attracting], low[attracting]]),
    )
    # Edges are numbered from 1: a stored 0 might be taken for none.
    beside = sparse.csr_matrix((np.tile(attracting + 1, 2), ends), shape=(count, count))
    left = np.abs(costs)
    return int(
        _pack(
            beside.indptr.astype(np.int64),
            beside.indices.astype(np.int64),
            beside.data.astype(np.int64) - 1,
            low[repelling],
            high[repelling],
            repelling,
            left,
        )
    )


@njit(cache=True, nogil=True)
def _pack(
    first: NDArray[np.int64],
    node: NDArray[np.int64],
    edge: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    repelling: NDArray[np.int64],
    left: NDArray[np.int64],
) -> int:
    """Take cycles while there are any; `left` is what the edges have not paid yet."""
    seen = np.full(len(first) - 1, -1, np.int64)
    waiting = np.empty(len(first), np.int64)
    came = np.empty(len(first), np.int64)  # edge and node that each was reached from
    parent = np.empty(len(first), np.int64)
    search = paid = 0
    for longest in range(2, LONGEST + 1):
        for k in range(len(repelling)):
            while left[repelling[k]] > 0:
                search += 1
                if not _way(
                    first, node, edge, left, low[k], high[k], longest,
                    seen, search, waiting, came, parent,
                ):  # fmt: skip
                    break
                least = left[repelling[k]]
                i = high[k]
                while i != low[k]:
                    least = min(least, left[came[i]])
                    i = parent[i]
                left[repelling[k]] -= least
                i = high[k]
                while i != low[k]:
                    left[came[i]] -= least
                    i = parent[i]
                paid += least
    return paid


@njit(cache=True, nogil=True)
def _way(
    first: NDArray[np.int64],
    node: NDArray[np.int64],
    edge: NDArray[np.int64],
    left: NDArray[np.int64],
    start: int,
    end: int,
    longest: int,
    seen: NDArray[np.int64],
    search: int,
    waiting: NDArray[np.int64],
    came: NDArray[np.int64],
    parent: NDArray[np.int64],
) -> bool:
    """Breadth first from start to end over edges that have something left."""
    seen[start] = search
    waiting[0] = start
    begin, size = 0, 1
    for _ in range(longest):
        stop = size
        while begin < stop:
            i = waiting[begin]
            begin += 1
            for p in range(first[i], first[i + 1]):
                j = node[p]
                if seen[j] != search and left[edge[p]] > 0:
                    seen[j] = search
                    came[j] = edge[p]
                    parent[j] = i
                    if j == end:
                        return True
                    waiting[size] = j
                    size += 1
    return False
