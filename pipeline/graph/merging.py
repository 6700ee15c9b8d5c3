"""What ways of merging have in common, and those that need no other package."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.errors import MethodError
from pipeline.features import ColorSpace, check_space
from pipeline.graph.normalized_cut import Cut, normalized_cut
from pipeline.graph.region_graph import RegionGraph, Weight
from pipeline.kernels.agglomerate import BOUNDARY, MEAN_COLOR, WARD, Merges, agglomerate
from pipeline.kernels.unionfind import DisjointSets
from pipeline.methods.base import Context
from pipeline.methods.checks import check_connectivity

Longs = NDArray[np.int64]

NO_MERGES = Merges(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


@dataclass(frozen=True, slots=True)
class Merged:
    """What merging made of a graph.

    Parameters
    ----------
    region : ndarray of shape (N,), int64
        Place of the first fragment of the region that each fragment belongs to.
    merges : Merges
        In their order, where there is one.
    facts : dict
        For the certificate.
    """

    region: Longs
    merges: Merges
    facts: dict[str, Any]


class Merging(BaseModel, ABC):
    """Fields that all ways have.

    `color_space`: "raw" compares the selected channels, "lab" red, green and blue as CIE L*a*b*.
    `boundary`: what is summed along borders, "gradient" or the number of a selected channel, such
    as a boundary probability. `connectivity`: which pixels are neighbours: 4 or 8 in 2D; 6, 18 or
    26 in 3D; by default 8 and 26. `max_fragments`: images with more are refused, for their graph
    is merged in the memory of one process.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    color_space: ColorSpace = "raw"
    boundary: Literal["gradient"] | int = "gradient"
    connectivity: Literal[4, 8, 6, 18, 26] | None = None
    max_fragments: int = Field(default=10_000_000, ge=1, lt=2**31)

    #: Memory of merging a fragment, above that of the graph: see `tests/benchmarks/merging.py`.
    bytes_per_fragment: ClassVar[int]

    @abstractmethod
    def merge(self, graph: RegionGraph) -> Merged:
        """Decide which regions become one."""

    def check(self, context: Context) -> None:
        """Raise MethodError if it does not apply to an image."""
        check_space(self.color_space, context)
        check_connectivity(self.connectivity, context)
        if isinstance(self.boundary, int) and not 0 <= self.boundary < context.channels:
            raise MethodError(
                context.name,
                f"merge.boundary is channel {self.boundary}, {context.channels} are selected",
                "Count the channels of source.channels from 0.",
            )

    def check_count(self, fragments: int, context: Context) -> None:
        """Raise MethodError if an image has too many fragments."""
        if fragments > self.max_fragments:
            size = self.graph_bytes(fragments, context) / 2**30
            raise MethodError(
                context.name,
                f"{fragments} fragments are to be merged, merge.max_fragments is "
                f"{self.max_fragments}: one process merges them, which takes about {size:.1f} GiB",
                "Make the fragments larger, or raise the limit if there is that memory.",
            )

    def graph_bytes(self, fragments: int, context: Context) -> int:
        """About what graph and merging take in the memory of the process that merges."""
        borders = 3 if context.grid.ndim == 2 else 7
        graph = 16 + 16 * context.channels + 32 * borders
        # The graph, its parts while they are added up or what it is packed into, and the merging.
        return fragments * (2 * graph + self.bytes_per_fragment)


class ThresholdMerging(Merging):
    """Merge every two neighbours whose edge weighs less than `value`, all at once.

    `weight`: "mean_color", the distance of mean values, or "boundary", the mean boundary value. The
    partition is that of `skimage.graph.cut_threshold`.
    """

    bytes_per_fragment: ClassVar[int] = 190

    by: Literal["threshold"]
    weight: Weight = "mean_color"
    value: float

    def merge(self, graph: RegionGraph) -> Merged:
        sets = DisjointSets(len(graph.number))
        low, high = graph.ends
        close = graph.weights(self.weight) < self.value
        sets.unite(low[close], high[close])
        return Merged(sets.names(), NO_MERGES, {"edges_cut": int((~close).sum())})


class HierarchicalMerging(Merging):
    """Merge the two neighbours of smallest weight, again and again.

    The weights of what was merged are made anew of its sums. `weight`: "mean_color"; "ward", the
    growth of the sum of squared distances to the mean; or "boundary". It ends where the smallest
    weight is `value` or more, or where `regions` are left, in the whole image. The merges
    are kept in their order: those up to a smaller value are the first ones.
    """

    bytes_per_fragment: ClassVar[int] = 320

    by: Literal["hierarchical"]
    weight: Literal["mean_color", "ward", "boundary"] = "mean_color"
    value: float | None = None
    regions: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _has_an_end(self) -> Self:
        if self.value is None and self.regions is None:
            raise ValueError("say where it ends: `value` or `regions`")
        return self

    def merge(self, graph: RegionGraph) -> Merged:
        low, high = graph.ends
        rule = {"mean_color": MEAN_COLOR, "ward": WARD, "boundary": BOUNDARY}[self.weight]
        # A boundary may have an offset; a threshold is compared with it added.
        shift = float(graph.offset[-1]) if rule == BOUNDARY else 0.0
        limit = np.inf if self.value is None else self.value - shift
        merges = agglomerate(
            graph.count,
            graph.sums,
            low,
            high,
            graph.length,
            graph.total,
            graph.step,
            rule,
            limit,
            self.regions or 1,
        )
        merges = merges._replace(weight=merges.weight + shift)
        return Merged(
            regions_after(merges, len(graph.number)), merges, {"merges": len(merges.kept)}
        )


class NormalizedCutMerging(Merging):
    """Cut the graph in two where the normalised cut is smallest, again and again.

    Two neighbours are as similar as exp(-d^2 / `sigma`^2), d the distance of their mean values. A
    part is cut while the cut is less than `value`. Parts of more than `largest` regions are cut
    along an eigenvector of low precision; the certificate counts them and states by how much their
    cuts may exceed the smallest ones. References: Shi, Malik, Normalized cuts and image
    segmentation, 2000, doi:10.1109/34.868688.
    """

    bytes_per_fragment: ClassVar[int] = 3400

    by: Literal["normalized_cut"]
    value: float = Field(default=0.01, gt=0, le=2)
    sigma: float = Field(gt=0)
    largest: int = Field(default=20_000, ge=100)

    def merge(self, graph: RegionGraph) -> Merged:
        similar = np.exp(-((graph.weights("mean_color") / self.sigma) ** 2))
        low, high = graph.ends
        found: Cut = normalized_cut(len(graph.number), low, high, similar, self.value, self.largest)
        facts = {"cuts": found.cuts, "largest_cut": found.largest_cut}
        if found.coarse:
            facts |= {"coarse_parts": found.coarse, "largest_gap": found.largest_gap}
        return Merged(found.region, NO_MERGES, facts)


def regions_after(merges: Merges, count: int) -> Longs:
    """Place of the first fragment of every fragment's region, after some merges."""
    sets = DisjointSets(count)
    sets.unite(merges.kept, merges.gone)
    return sets.names()
