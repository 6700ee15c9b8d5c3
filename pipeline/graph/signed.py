"""Attraction and repulsion: signed costs of a graph's edges, as multicut and GASP need them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.graph.merging import Merging
from pipeline.graph.region_graph import RegionGraph, Weight
from pipeline.kernels.unionfind import DisjointSets

if TYPE_CHECKING:
    from bioimage_cpp.graph import UndirectedGraph

Longs = NDArray[np.int64]
Floats = NDArray[np.float64]

#: Costs are whole numbers of steps, so that sums of them do not depend on any order. A step is
#: coarser than the last bits in which processors' logarithms differ.
STEPS_A_UNIT = 2**16
#: Probabilities are clipped to LEAST..1 - LEAST, and differences to what follows of it.
LEAST = 0.001
LIMIT = float(np.log((1 - LEAST) / LEAST))

LIBRARY = "bioimage_cpp"
INSTALL = "pip install 'tilewright[graph]'"


class SignedMerging(Merging):
    """Merging by edges that attract (a cost above 0) or repel (below 0).

    `weight`: "mean_color", the distance of mean values, or "boundary", the mean boundary value. An
    edge that weighs `value` costs 0. `costs`: "difference", (value - weight) / value, for
    anything; or "log_odds", log((1 - p) / p) - log((1 - q) / q) where p and q are weight and
    `value` over `certain`, for a boundary channel that is a probability. `certain`: what that
    channel holds where the probability is 1, such as 255. p is clipped to 0.001..0.999 and a
    difference to -6.9..6.9. `by_length`: every pair of pixels along a border counts, else every
    border counts as one.
    """

    weight: Weight = "mean_color"
    value: float = Field(gt=0)
    costs: Literal["difference", "log_odds"] = "difference"
    certain: float = Field(default=1.0, gt=0)
    by_length: bool = True

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if find_spec(LIBRARY) is None:
            raise ValueError(f"the package bioimage-cpp is not installed: {INSTALL}")
        if self.costs == "log_odds":
            if self.weight != "boundary" or self.boundary == "gradient":
                raise ValueError(
                    "`costs: log_odds` needs a boundary probability: set `weight: boundary` and "
                    "`boundary` to the number of its channel, or use `costs: difference`"
                )
            if not self.value < self.certain:
                raise ValueError(
                    f"`value` is {self.value:g}, it must be less than `certain`, the value of "
                    f"probability 1, which is {self.certain:g}"
                )
        return self

    def steps(self, graph: RegionGraph) -> Longs:
        """Cost of every edge, or of each pair of its pixels, in steps, shape (E,)."""
        weight = graph.weights(self.weight)
        if self.costs == "difference":
            costs = np.clip((self.value - weight) / self.value, -LIMIT, LIMIT)
        else:
            costs = _log_odds(weight / self.certain) - _log_odds(self.value / self.certain)
        return np.rint(costs * STEPS_A_UNIT).astype(np.int64)


def _log_odds(probability: Floats | float) -> Floats:
    p = np.clip(np.asarray(probability, np.float64), LEAST, 1 - LEAST)
    return np.asarray(np.log((1 - p) / p), np.float64)


def library_graph(count: int, low: Longs, high: Longs) -> UndirectedGraph:
    """The same graph for the library, its edges in the same order."""
    from bioimage_cpp.graph import UndirectedGraph  # noqa: PLC0415 - an extra

    ends = np.stack([low, high], axis=1).astype(np.uint64)
    return UndirectedGraph.from_unique_edges(count, ends)


def library_version() -> str:
    """Name and version of the library, for the certificate."""
    from bioimage_cpp import __version__  # noqa: PLC0415 - an extra

    return f"bioimage-cpp {__version__}"


def parts(label: NDArray[np.uint64], low: Longs, high: Longs) -> Longs:
    """The smallest node of the part of every node; equal labels that nothing links are apart.

    Cutting apart what no edge links costs nothing.
    """
    sets = DisjointSets(len(label))
    inside = label[low] == label[high]
    sets.unite(low[inside], high[inside])
    return sets.names()
