"""Disjoint sets over numbered nodes."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def _unite(parent: NDArray[np.int64], a: NDArray[np.int64], b: NDArray[np.int64]) -> None:
    for k in range(len(a)):
        i = a[k]
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        j = b[k]
        while parent[j] != j:
            parent[j] = parent[parent[j]]
            j = parent[j]
        # The smaller number becomes the root: the outcome does not depend on the order.
        if i < j:
            parent[j] = i
        elif j < i:
            parent[i] = j


@njit(cache=True, nogil=True)
def _flatten(parent: NDArray[np.int64]) -> None:
    for i in range(len(parent)):
        # A root is smaller than its members, so it has been flattened already.
        parent[i] = parent[parent[i]]


class DisjointSets:
    """Union-find over nodes 0..n-1; a set's name is its smallest node.

    References
    ----------
    Tarjan, Efficiency of a good but not linear set union algorithm, 1975,
    doi:10.1145/321879.321884
    """

    def __init__(self, count: int) -> None:
        self._parent = np.arange(count, dtype=np.int64)

    def unite(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> None:
        """Unite the sets of a[k] and b[k] for every k."""
        _unite(
            self._parent,
            np.ascontiguousarray(a, dtype=np.int64),
            np.ascontiguousarray(b, dtype=np.int64),
        )

    def names(self) -> NDArray[np.int64]:
        """The smallest node of every node's set."""
        _flatten(self._parent)
        return self._parent.copy()
