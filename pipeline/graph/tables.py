"""The graph as files beside the labels: nodes, edges and the history of merges, in parquet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.graph.merging import regions_after
from pipeline.graph.region_graph import RegionGraph
from pipeline.graph.rounds import GONE, KEPT, REGION, WEIGHT
from pipeline.kernels.agglomerate import Merges
from pipeline.methods.base import State
from pipeline.storage import AnyPath, path_of
from pipeline.table_file import TableFile, open_table

if TYPE_CHECKING:
    import networkx
    from scipy import sparse

TABLES = ("nodes", "edges", "merges")

Longs = NDArray[np.int64]


def write_graph(folder: AnyPath, state: State, published: Longs) -> dict[str, str]:
    """Write the tables of a merged graph.

    Parameters
    ----------
    folder : Path or StorePath
        For nodes.parquet, edges.parquet and merges.parquet.
    state : dict of ndarray
        Behind the rounds of merging.
    published : ndarray of shape (n,), int64
        Label in the published image by the number of a region, 0 where it was dropped.

    Returns
    -------
    dict
        Name of each table -> digest of its values.
    """
    graph = RegionGraph.of(state)
    found = {}
    for name, table in _tables(graph, state, published).items():
        with TableFile(folder / f"{name}.parquet", table.schema) as file:
            file.add(table)
        found[name] = file.digest
    return found


def _tables(graph: RegionGraph, state: State, published: Longs) -> dict[str, pa.Table]:
    region = state[REGION].astype(np.int64)
    nodes: dict[str, Any] = {
        "fragment": graph.number,
        "region": region,
        "label": published[region] if len(region) else region,
        "count_px": graph.count,
    }
    means = graph.means()
    deviations = np.sqrt(graph.variances())
    for c in range(graph.sums.shape[1]):
        nodes |= {f"sum_{c}": graph.sums[:, c], f"square_sum_{c}": graph.squares[:, c]}
        nodes |= {f"mean_{c}": means[:, c], f"std_{c}": deviations[:, c]}
    edges: dict[str, Any] = {
        "a": graph.a,
        "b": graph.b,
        "length_px": graph.length,
        "boundary_sum": graph.total,
        "boundary_mean": graph.boundary_means(),
        "color_distance": graph.weights("mean_color"),
    }
    merges: dict[str, Any] = {
        "kept": state[KEPT].astype(np.int64),
        "gone": state[GONE].astype(np.int64),
        "weight": state[WEIGHT].astype(np.float64),
    }
    return {"nodes": pa.table(nodes), "edges": pa.table(edges), "merges": pa.table(merges)}


@dataclass(frozen=True, slots=True)
class StoredGraph:
    """A graph as it was published.

    Parameters
    ----------
    nodes, edges, merges : pyarrow.Table
        nodes: one row a fragment, numbered from 1: its region (the smallest fragment in it), the
        published label of that region, pixels, and for each channel sum and sum of squares in
        steps, mean and standard deviation. edges: fragments a < b that touch, pairs of pixels,
        boundary values. merges: in their order, the region that stays, the one that joins it, and
        the weight between them.
    """

    nodes: pa.Table
    edges: pa.Table
    merges: pa.Table

    @classmethod
    def open(cls, folder: AnyPath | str) -> StoredGraph:
        """Read `<image>.ome.zarr/graphs/<label>`."""
        place = path_of(folder) if isinstance(folder, str) else folder
        return cls(*(pq.read_table(open_table(place / f"{name}.parquet")) for name in TABLES))

    def regions_at(self, value: float) -> Longs:
        """Region of every fragment if merging had ended at a smaller value.

        Returns
        -------
        ndarray of shape (N,), int64
            The smallest fragment of the region; that of a run with `merge.value` set to `value`.
        """
        weight = self.merges["weight"].to_numpy()
        above = np.flatnonzero(weight >= value)
        count = int(above[0]) if len(above) else len(weight)
        kept, gone = (self.merges[key].to_numpy()[:count] - 1 for key in ("kept", "gone"))
        return regions_after(Merges(kept, gone, weight[:count]), len(self.nodes)) + 1

    def to_networkx(self) -> networkx.Graph:
        """As `networkx.Graph`, with all columns as attributes."""
        import networkx  # noqa: PLC0415 - only here

        graph = networkx.Graph()
        graph.add_nodes_from((row.pop("fragment"), row) for row in self.nodes.to_pylist())
        graph.add_edges_from((row.pop("a"), row.pop("b"), row) for row in self.edges.to_pylist())
        return graph

    def to_scipy(self, column: str = "color_distance") -> sparse.csr_matrix:
        """As a symmetric `scipy.sparse` matrix of one column of the edges; row 0 is fragment 1."""
        from scipy import sparse  # noqa: PLC0415 - only here

        a, b = (self.edges[key].to_numpy() - 1 for key in ("a", "b"))
        value = self.edges[column].to_numpy()
        size = len(self.nodes)
        ends = (np.concatenate([a, b]), np.concatenate([b, a]))
        return sparse.csr_matrix((np.tile(value, 2), ends), shape=(size, size))
