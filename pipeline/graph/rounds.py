"""The rounds behind those of a method that merge its objects on their graph.

join -> count every tile's part of the graph -> merge -> emit the regions -> join
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pipeline.graph.build import BUILT, BuildGraph
from pipeline.graph.merging import Merging
from pipeline.graph.region_graph import RegionGraph
from pipeline.kernels.relabel import numbered, relabel
from pipeline.methods.base import (
    Context,
    EmittingRound,
    JoinRound,
    Output,
    Round,
    State,
    StateRound,
    TileLabels,
)
from pipeline.methods.checks import or_full
from pipeline.records import Record
from pipeline.view import TileView

JOINED = "merge.joined"
#: Region of every fragment, by number - 1: the smallest fragment number in it.
REGION = "merge.region"
KEPT, GONE, WEIGHT = "merge.kept", "merge.gone", "merge.weight"
EMITTED = "merge.emitted"
#: Prefix of what the certificate tells.
FACTS = "merge.fact."


def merge_round(merging: Merging, state: State, context: Context) -> Round | None:
    """The next round of merging; None when every tile has its regions."""
    if JOINED not in state:
        return JoinRound(JOINED)
    if BUILT not in state:
        boundary = None if merging.boundary == "gradient" else merging.boundary
        connectivity = or_full(merging.connectivity, context.grid.ndim)
        return BuildGraph(merging.color_space, boundary, connectivity)
    if REGION not in state:
        return Merge(merging, context)
    return None if EMITTED in state else EmitRegions()


def merge_facts(state: State) -> dict[str, Any]:
    """What the certificate tells of merging."""
    graph = RegionGraph.of(state)
    facts: dict[str, Any] = {"fragments": len(graph.number), "edges": len(graph.a)}
    found = {key: state[key].item() for key in state if key.startswith(FACTS)}
    return facts | {key.removeprefix(FACTS): value for key, value in found.items()}


@dataclass(frozen=True)
class Merge(StateRound):
    """Merge the graph."""

    merging: Merging
    context: Context

    name: ClassVar[str] = "merge"

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        graph = RegionGraph.of(state)
        self.merging.check_count(len(graph.number), self.context)
        merged = self.merging.merge(graph)
        facts = {FACTS + key: np.array(value) for key, value in merged.facts.items()}
        return {
            **state,
            REGION: graph.number[merged.region],
            KEPT: graph.number[merged.merges.kept],
            GONE: graph.number[merged.merges.gone],
            WEIGHT: merged.merges.weight,
            **facts,
        }


@dataclass(frozen=True)
class EmitRegions(EmittingRound):
    """Emit the regions that the objects of each core belong to."""

    name: ClassVar[str] = "regions"
    done: ClassVar[str] = EMITTED
    reads: ClassVar[tuple[str, ...]] = (REGION,)

    def map(self, view: TileView, state: State) -> Output:
        region = np.append(0, state[REGION].astype(np.int64))
        labels, found = numbered(relabel(view.objects(), region), len(region))
        return Output({}, TileLabels(labels, keys=found))
