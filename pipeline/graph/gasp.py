"""GASP: agglomeration by attraction and repulsion, with a choice of linkages."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from pipeline.graph.merging import NO_MERGES, Merged
from pipeline.graph.region_graph import RegionGraph
from pipeline.graph.signed import (
    STEPS_A_UNIT,
    SignedMerging,
    library_graph,
    library_version,
    parts,
)

#: The library's names. "mutex_watershed" forbids a merge for good, as the others do not.
LINKAGES = {
    "average": "mean",
    "sum": "sum",
    "max": "max",
    "min": "min",
    "mutex": "mutex_watershed",
}


class GaspMerging(SignedMerging):
    """Merge the two neighbours that attract each other most, again and again.

    It ends where no two attract each other, so the number of regions follows from the costs.
    `linkage`: what the edges between two merged regions become: "average", mean of all edges,
    "sum", "max" or "min"; "mutex" takes edges once, the strongest first, and a repelling one keeps
    its regions apart for good. `by_length` matters to "average" and "sum" only.

    References: Bailoni et al., GASP, a generalized framework for agglomerative clustering of
    signed graphs and its application to instance segmentation, 2022,
    doi:10.1109/CVPR52688.2022.01135; Wolf et al., The mutex watershed and its objective, 2021,
    doi:10.1109/TPAMI.2020.2980827.
    """

    bytes_per_fragment: ClassVar[int] = 950

    by: Literal["gasp"]
    linkage: Literal["average", "sum", "max", "min", "mutex"] = "average"

    def merge(self, graph: RegionGraph) -> Merged:
        from bioimage_cpp.graph.agglomeration import GaspClusterPolicy  # noqa: PLC0415 - an extra

        costs = self.steps(graph)
        facts = {
            "solver": f"{library_version()} gasp {self.linkage}",
            "attracting_edges": int((costs > 0).sum()),
            "repelling_edges": int((costs < 0).sum()),
        }
        if not (costs > 0).any():
            return Merged(np.arange(len(graph.number), dtype=np.int64), NO_MERGES, facts)
        sizes = graph.length if self.by_length else np.ones_like(graph.length)
        if self.linkage == "sum":
            costs = costs * sizes
        low, high = graph.ends
        found = GaspClusterPolicy(linkage=LINKAGES[self.linkage]).optimize(
            library_graph(len(graph.number), low, high),
            costs / STEPS_A_UNIT,
            edge_sizes=sizes.astype(np.float64),
        )
        return Merged(parts(found, low, high), NO_MERGES, facts)
