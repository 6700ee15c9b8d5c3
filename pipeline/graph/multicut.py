"""Multicut: the partition whose cut edges cost least, found by local search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.graph.merging import NO_MERGES, Merged
from pipeline.graph.region_graph import RegionGraph
from pipeline.graph.signed import (
    STEPS_A_UNIT,
    SignedMerging,
    library_graph,
    library_version,
    parts,
)
from pipeline.kernels.cycle_packing import pack_cycles

if TYPE_CHECKING:
    from bioimage_cpp.graph.multicut import MulticutSolver

Longs = NDArray[np.int64]

Solver = Literal["greedy_additive", "greedy_fixation", "kernighan_lin", "fusion_moves"]


class MulticutMerging(SignedMerging):
    """Cut the graph where the sum of the costs of all cut edges is smallest, as far as is found.

    The number of regions follows from the costs. To find the smallest sum is NP-hard. `solver`:
    "greedy_additive" merges the most attracted regions again and again; "greedy_fixation" also
    fixes the strongest repulsions; "kernighan_lin" moves regions over the borders of what
    "greedy_additive" found; "fusion_moves" improves that by up to `iterations` solutions of
    disturbed costs, drawn with `seed`. The certificate states the sum found (`energy`) and a bound
    that no partition is below (`lower_bound`).

    References: Beier et al., Multicut brings automated neurite segmentation closer to human
    performance, 2017, doi:10.1038/nmeth.4151; Keuper et al., Efficient decomposition of image and
    mesh graphs by lifted multicuts, 2015, doi:10.1109/ICCV.2015.204 (greedy, Kernighan-Lin);
    Beier, Hamprecht, Kappes, Fusion moves for correlation clustering, 2015,
    doi:10.1109/CVPR.2015.7298973.
    """

    bytes_per_fragment: ClassVar[int] = 1100

    by: Literal["multicut"]
    solver: Solver = "kernighan_lin"
    iterations: int = Field(default=10, ge=1, le=1000)
    seed: int = Field(default=0, ge=0, lt=2**31)

    def merge(self, graph: RegionGraph) -> Merged:
        costs = self.steps(graph)
        if self.by_length:
            costs = costs * graph.length
        low, high = graph.ends
        region = self._solve(len(graph.number), low, high, costs)
        energy = int(costs[region[low] != region[high]].sum())
        bound = int(costs[costs < 0].sum()) + pack_cycles(len(graph.number), low, high, costs)
        facts: dict[str, Any] = {
            "solver": f"{library_version()} {self.solver}",
            "energy": energy / STEPS_A_UNIT,
            "lower_bound": bound / STEPS_A_UNIT,
            "largest_gap": (energy - bound) / STEPS_A_UNIT,
        }
        return Merged(region, NO_MERGES, facts)

    def _solve(self, count: int, low: Longs, high: Longs, costs: Longs) -> Longs:
        if not (costs > 0).any():  # nothing attracts
            return np.arange(count, dtype=np.int64)
        from bioimage_cpp.graph.multicut import MulticutObjective  # noqa: PLC0415 - an extra

        # In units, for the solvers' tolerances are those of log odds; whole steps stay exact.
        objective = MulticutObjective(library_graph(count, low, high), costs / STEPS_A_UNIT)
        disturbance = float(np.abs(costs).mean()) / STEPS_A_UNIT
        return parts(self._solver(disturbance).optimize(objective), low, high)

    def _solver(self, disturbance: float) -> MulticutSolver:
        from bioimage_cpp.graph import multicut  # noqa: PLC0415 - an extra

        if self.solver == "greedy_additive":
            return multicut.GreedyAdditiveMulticut()
        if self.solver == "greedy_fixation":
            return multicut.GreedyFixationMulticut()
        # What no attraction links is apart in the best solution too. Kernighan-Lin need not look at
        # such pairs of regions, which takes it as long as the larger one is.
        parted = multicut.MulticutDecomposer(multicut.KernighanLinMulticut(), number_of_threads=1)
        if self.solver == "kernighan_lin":
            return parted
        generator = multicut.GreedyAdditiveProposalGenerator(sigma=disturbance, seed=self.seed)
        # Results depend on the number of proposals at once, not on that of threads: both are fixed.
        moves = multicut.FusionMoveMulticut(
            proposal_generator=generator,
            number_of_iterations=self.iterations,
            number_of_threads=1,
            number_of_parallel_proposals=2,
        )
        return multicut.ChainedMulticutSolvers([parted, moves])
