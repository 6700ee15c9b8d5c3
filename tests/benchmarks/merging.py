"""Time and memory of every way of merging, on lattices of random whole sums.

python tests/benchmarks/merging.py --nodes 100000 1000000 --ways threshold,hierarchical

Every way runs in a process of its own, on Linux. "graph B" are the graph's bytes a node, "merge B"
the most that the process holds above them while it merges.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from pipeline.graph.gasp import GaspMerging
from pipeline.graph.merging import (
    HierarchicalMerging,
    Merging,
    NormalizedCutMerging,
    ThresholdMerging,
)
from pipeline.graph.multicut import MulticutMerging
from pipeline.graph.region_graph import RegionGraph

#: Between neighbours of one block and those of two; as strong as boundaries are on average.
VALUE = 30.0
WAYS: dict[str, Merging] = {
    "threshold": ThresholdMerging(by="threshold", value=VALUE / 3),
    "hierarchical": HierarchicalMerging(by="hierarchical", value=VALUE),
    "ward": HierarchicalMerging(by="hierarchical", weight="ward", value=100 * VALUE**2),
    # One part of all nodes, which is not cut: one eigenvector.
    "normalized_cut": NormalizedCutMerging(by="normalized_cut", sigma=4000, value=1e-9),
    "normalized_cut-precise": NormalizedCutMerging(
        by="normalized_cut", sigma=4000, value=1e-9, largest=10**9
    ),
    **{
        f"multicut-{solver}": MulticutMerging(by="multicut", value=VALUE, solver=solver)
        for solver in ("greedy_additive", "greedy_fixation", "kernighan_lin", "fusion_moves")
    },
    **{
        f"gasp-{linkage}": GaspMerging(by="gasp", value=VALUE, linkage=linkage)
        for linkage in ("average", "sum", "mutex")
    },
}

COLUMNS = ("nodes", "edges", "regions", "cpu s", "wall s", "graph B", "merge B")
HEAD = f"{'way':24s}" + "".join(f"{name:>9s}" for name in COLUMNS)


def lattice(nodes: int, background: float, channels: int = 3, seed: int = 0) -> RegionGraph:
    """A lattice with one diagonal, three edges a node, as basins of a watershed have.

    Blocks of 8 x 8 nodes have a colour; a share of them has that of the background.
    """
    side = int(nodes**0.5)
    place = np.arange(1, side * side + 1).reshape(side, side)
    low = np.concatenate([place[:, :-1].ravel(), place[:-1].ravel(), place[:-1, :-1].ravel()])
    high = np.concatenate([place[:, 1:].ravel(), place[1:].ravel(), place[1:, 1:].ravel()])
    order = np.lexsort([high, low])
    generator = np.random.default_rng(seed)
    count = generator.integers(20, 200, side * side)
    mean = generator.integers(100, 130, (side * side, channels))
    block = generator.integers(100, 4000, (side // 8 + 1, side // 8 + 1, channels))
    block[generator.random(block.shape[:2]) < background] = 0
    mean += np.kron(block, np.ones((8, 8, 1), int))[:side, :side].reshape(-1, channels)
    length = generator.integers(2, 20, len(low))
    return RegionGraph(
        place.ravel(),
        count,
        mean * count[:, None],
        mean**2 * count[:, None],
        low[order],
        high[order],
        length,
        2 * length * generator.integers(5, 55, len(low)),
        np.zeros(channels + 1),
        np.ones(channels + 1),
    )


def memory_bytes(key: str) -> int:
    """Memory of this process, from the kernel: "VmRSS" now, "VmHWM" at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def measure(way: str, nodes: int, background: float) -> str:
    """One row of the table."""
    merging = WAYS[way]
    merging.merge(lattice(2500, background))  # kernels are compiled before
    graph = lattice(nodes, background)
    held = sum(getattr(graph, name).nbytes for name in graph.__slots__)
    forget_peak()  # a thread would not do: not every solver lets others run
    before = memory_bytes("VmRSS")
    start, cpu = time.perf_counter(), time.process_time()
    merged = merging.merge(graph)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = memory_bytes("VmHWM")
    size = len(graph.number)
    regions = len(np.unique(merged.region))
    bytes_a_node = (peak - before) / size
    numbers = f"{size:9d}{len(graph.a):9d}{regions:9d}{cpu:9.2f}{seconds:9.2f}"
    return f"{way:24s}{numbers}{held / size:9.0f}{bytes_a_node:9.0f}  {_shown(merged.facts)}"


def _shown(facts: dict[str, Any]) -> str:
    wanted = ("energy", "largest_gap", "coarse_parts")
    return " ".join(f"{key} {facts[key]:.6g}" for key in wanted if key in facts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, nargs="+", default=[100_000])
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--background", type=float, default=0.0, help="share of blocks, 0 to 1")
    parser.add_argument("--one", action="store_true", help="measure here, not in a new process")
    chosen = parser.parse_args()
    ways = chosen.ways.split(",")
    if unknown := sorted(set(ways) - set(WAYS)):
        parser.error(f"--ways: {', '.join(unknown)} unknown; valid: {', '.join(WAYS)}")
    if chosen.one:
        print(measure(ways[0], chosen.nodes[0], chosen.background), flush=True)
        return 0
    print(HEAD, flush=True)
    for nodes in chosen.nodes:
        for way in ways:
            own = ["--one", "--nodes", str(nodes), "--ways", way]
            own += ["--background", str(chosen.background)]
            subprocess.run([sys.executable, __file__, *own], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
