"""Recursive normalised cuts of a graph, the same on every machine that computes alike.

The second eigenvector of the normalised Laplacian is found from a fixed start, and its values are
split where the normalised cut is smallest. Disconnected parts are cut apart first: their cut is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph, linalg
from threadpoolctl import threadpool_limits

Longs = NDArray[np.int64]
Floats = NDArray[np.float64]

#: Parts of at most so many regions are solved as dense matrices.
SMALL = 1000
#: Neighbours that are less similar are not similar at all, and parts fall apart there.
LEAST = 1e-12


@dataclass(frozen=True, slots=True)
class Cut:
    """Parts of a graph.

    Parameters
    ----------
    region : ndarray of shape (N,), int64
        The smallest node of every node's part.
    cuts : int
        How often a connected part was cut.
    largest_cut : float
        The largest normalised cut that was made; 0 where there was none.
    coarse : int
        Parts that were too large for the eigenvector to be found in full precision.
    largest_gap : float
        The most by which the split chosen for such a part may exceed the smallest normalised cut
        it has; 0 where there was none.
    """

    region: Longs
    cuts: int
    largest_cut: float
    coarse: int
    largest_gap: float


def normalized_cut(
    count: int, low: Longs, high: Longs, similar: Floats, limit: float, largest: int
) -> Cut:
    """Cut a graph while the smallest normalised cut of a part is less than `limit`.

    Parameters
    ----------
    count : int
        Number of nodes.
    low, high : ndarray of shape (E,), int64
        Ends of every edge.
    similar : ndarray of shape (E,), float64
        Weights, 0 or more.
    limit : float
    largest : int
        Parts of more nodes get an eigenvector of low precision.

    References
    ----------
    Shi, Malik, Normalized cuts and image segmentation, 2000, doi:10.1109/34.868688
    """
    kept = similar >= LEAST
    low, high, similar = low[kept], high[kept], similar[kept]
    rows, columns = np.concatenate([low, high]), np.concatenate([high, low])
    graph = sparse.csr_matrix((np.tile(similar, 2), (rows, columns)), shape=(count, count))
    region = np.arange(count, dtype=np.int64)
    waiting = [np.arange(count, dtype=np.int64)]
    cuts = coarse = 0
    largest_cut = largest_gap = 0.0
    with threadpool_limits(1):
        while waiting:
            nodes = waiting.pop()
            part = graph[nodes][:, nodes]
            number, name = csgraph.connected_components(part, directed=False)
            if number > 1:
                order = np.argsort(name, kind="stable")
                waiting += np.split(nodes[order], np.cumsum(np.bincount(name))[:-1])
                continue
            region[nodes] = nodes.min(initial=count)
            if len(nodes) < 2:
                continue
            side, value, bound = best_split(part, precise=len(nodes) <= largest)
            if len(nodes) > largest:
                coarse += 1
                largest_gap = max(largest_gap, value - bound)
            if value < limit:
                cuts += 1
                largest_cut = max(largest_cut, value)
                waiting += [nodes[side], nodes[~side]]
    return Cut(region, cuts, largest_cut, coarse, largest_gap)


def best_split(
    graph: sparse.csr_matrix, precise: bool = True
) -> tuple[NDArray[np.bool_], float, float]:
    """The best of some splits along the second eigenvector of a connected graph.

    Returns
    -------
    side : ndarray of shape (N,), bool
    value : float
        The normalised cut.
    bound : float
        No normalised cut of the graph is smaller: the second eigenvalue less its error.
    """
    degree: Floats = np.asarray(graph.sum(axis=1)).ravel().astype(np.float64)
    scale = sparse.diags(1.0 / np.sqrt(degree))
    laplacian = sparse.identity(len(degree)) - scale @ graph @ scale
    if len(degree) <= SMALL:
        values, vectors = np.linalg.eigh(laplacian.toarray())
        place = 1
    else:
        # Weak links make many eigenvalues near 0, which only inverse iteration tells apart.
        start = np.sqrt(degree) * np.cos(np.arange(len(degree)))
        tolerance = 1e-10 if precise else 1e-2
        values, vectors = linalg.eigsh(
            laplacian.tocsc(), k=2, sigma=-1e-6, which="LM", v0=start, tol=tolerance
        )
        place = int(np.argsort(values)[1])
    second: Floats = vectors[:, place]
    error = float(np.linalg.norm(laplacian @ second - values[place] * second))
    bound = max(0.0, float(values[place]) - error)
    # Its sign is free; it must not be the solver's choice.
    second = second * np.sign(second[np.argmax(np.abs(second))])
    heights = (second / np.sqrt(degree)).astype(np.float64)
    return *_split_at(graph, degree, heights), bound


def _split_at(
    graph: sparse.csr_matrix, degree: Floats, values: Floats
) -> tuple[NDArray[np.bool_], float]:
    """The smallest normalised cut at any value (few nodes) or at evenly spaced ones."""
    order = np.argsort(values, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    # cut[k]: weight of the edges between the first k + 1 nodes of the order and the others
    edges = sparse.triu(graph).tocoo()
    first = np.minimum(rank[edges.row], rank[edges.col])
    last = np.maximum(rank[edges.row], rank[edges.col])
    change = np.zeros(len(order) + 1)
    np.add.at(change, first, edges.data)
    np.add.at(change, last, -edges.data)
    cut = np.cumsum(change)[: len(order) - 1]
    inside = np.cumsum(degree[order])[:-1]
    outside = degree.sum() - inside
    with np.errstate(divide="ignore", invalid="ignore"):
        found = cut / inside + cut / outside
    best = int(np.nanargmin(np.where(np.isfinite(found), found, np.inf)))
    return rank <= best, float(found[best])
