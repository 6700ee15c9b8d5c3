"""Superpixels, their graph and its merging, each beside scikit-image on the whole image.

python tests/benchmarks/regions.py [--size 4096] [--segments 40000]

CPU seconds of one process with one thread, on stained tissue in colours. Ours are the engine's own
steps, tile by tile: reading pixels and labels, building, putting together. scikit-image has image
and labels in memory. Each runs once before, at a small size, so that kernels are compiled.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from skimage import graph as skgraph
from skimage import segmentation
from threadpoolctl import threadpool_limits

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from inputs import tissue  # noqa: E402

from pipeline.engine import Engine  # noqa: E402
from pipeline.graph.merging import HierarchicalMerging, ThresholdMerging  # noqa: E402
from pipeline.graph.region_graph import RegionGraph  # noqa: E402
from pipeline.graph.tables import StoredGraph  # noqa: E402
from pipeline.ledger import MemoryLedger  # noqa: E402
from pipeline.orders import MapOrder, Order, Receipt  # noqa: E402
from pipeline.output import OutputPlan  # noqa: E402
from pipeline.recipe import parse_recipe  # noqa: E402
from pipeline.sources import SourceSpec  # noqa: E402
from pipeline.trial import plan_array  # noqa: E402

TILE = 2048
ITERATIONS = 5
#: Distance of mean colours where merging ends.
VALUE = 20.0


class Clock:
    """An executor of this process that notes the CPU time at which each round begins."""

    def __init__(self) -> None:
        self.begun: dict[str, float] = {}

    def __call__(self, orders: Iterable[Order]) -> Iterator[tuple[Order, Receipt | BaseException]]:
        for order in orders:
            name = order.round.name if isinstance(order, MapOrder) else type(order).__name__
            self.begun.setdefault(name, time.process_time())
            yield order, order.perform()


def run_ours(path: Path, segments: int, folder: Path) -> tuple[Clock, RegionGraph, np.ndarray]:
    """The chain up to a merging that does nothing: the regions are the superpixels."""
    segment = {"method": "slic", "segments": segments, "iterations": ITERATIONS}
    content = {
        "source": {"channels": [0, 1, 2]},
        "segment": {**segment, "color_space": "lab"},
        "merge": {"by": "threshold", "value": -1},
        "output": {"pyramid": False},
    }
    recipe = parse_recipe(content, "benchmark")
    spec = SourceSpec("ome_zarr", str(path), "image")
    job = plan_array(recipe, spec, TILE, folder)
    output = OutputPlan(folder / "staged", folder / "t.parquet", recipe, job.info, spec, "none")
    clock = Clock()
    Engine(job, output, clock, MemoryLedger(), 1).run()
    labels = np.asarray(zarr.open_array(Path(output.labels(0).path) / "0", mode="r")[...])
    return clock, graph_of(StoredGraph.open(output.graph)), labels.reshape(labels.shape[-2:])


def graph_of(stored: StoredGraph) -> RegionGraph:
    """The graph as it was before it was stored; values are bytes, so steps are 1."""
    nodes, edges = stored.nodes, stored.edges
    sums, squares = (
        np.stack([nodes[f"{key}_{c}"].to_numpy() for c in range(3)], axis=1)
        for key in ("sum", "square_sum")
    )
    number, count = (nodes[key].to_numpy() for key in ("fragment", "count_px"))
    ends = (edges[key].to_numpy() for key in ("a", "b", "length_px", "boundary_sum"))
    return RegionGraph(number, count, sums, squares, *ends, np.zeros(4), np.ones(4))


def read(path: Path) -> np.ndarray:
    stored = np.asarray(zarr.open_array(path / "0", mode="r")[...])
    return np.ascontiguousarray(np.moveaxis(stored, 0, -1))


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.process_time()
    found = action()
    return time.process_time() - begun, found


def weigh(graph: Any, source: int, target: int, beside: int) -> dict[str, float]:
    apart = graph.nodes[target]["mean color"] - graph.nodes[beside]["mean color"]
    return {"weight": float(np.linalg.norm(apart))}


def merge(graph: Any, source: int, target: int) -> None:
    into, gone = graph.nodes[target], graph.nodes[source]
    into["total color"] = into["total color"] + gone["total color"]
    into["pixel count"] += gone["pixel count"]
    into["mean color"] = into["total color"] / into["pixel count"]


def compare(path: Path, segments: int, folder: Path) -> list[tuple[str, float, float, str]]:
    """Rows: what, our CPU seconds, scikit-image's, and what both found."""
    clock, graph, labels = run_ours(path, segments, folder)
    image = read(path)
    begun = clock.begun
    slic, theirs = timed(
        lambda: segmentation.slic(image, segments, compactness=10, max_num_iter=ITERATIONS)
    )
    counts = f"{labels.max()} and {theirs.max()} superpixels"
    rows = [("slic, Lab, 5 iterations", begun["graph"] - begun["seeds"], slic, counts)]
    rag_s, rag = timed(lambda: skgraph.rag_mean_color(image, labels, connectivity=2))
    counts = f"{len(graph.a)} and {rag.number_of_edges()} edges"
    rows.append(("graph", begun["regions"] - begun["graph"], rag_s, counts))
    ours_s, ours = timed(lambda: ThresholdMerging(by="threshold", value=VALUE).merge(graph))
    theirs_s, theirs = timed(lambda: skgraph.cut_threshold(labels, rag, VALUE, in_place=False))
    counts = f"{len(np.unique(ours.region))} and {len(np.unique(theirs))} regions"
    rows.append(("threshold merge", ours_s, theirs_s, counts))
    hierarchical = HierarchicalMerging(by="hierarchical", value=VALUE)
    ours_s, ours = timed(lambda: hierarchical.merge(graph))
    theirs_s, theirs = timed(
        lambda: skgraph.merge_hierarchical(labels, rag, VALUE, False, True, merge, weigh)
    )
    counts = f"{len(np.unique(ours.region))} and {len(np.unique(theirs))} regions"
    rows.append(("hierarchical merge", ours_s, theirs_s, counts))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--segments", type=int, default=40_000)
    options = parser.parse_args()
    with threadpool_limits(1), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "small").mkdir()
        compare(tissue(folder / "small" / "tissue.ome.zarr", 256), 200, folder / "small")
        path = tissue(folder / "tissue.ome.zarr", options.size)
        print(f"side {options.size}; CPU seconds of one process")
        print(f"{'':26s}{'tilewright':>12s}{'scikit-image':>14s}{'faster':>9s}")
        for what, ours, theirs, found in compare(path, options.segments, folder):
            print(f"{what:26s}{ours:12.2f}{theirs:14.2f}{theirs / ours:8.1f}x  {found}")


if __name__ == "__main__":
    main()
