"""Networks end to end (zarr in, labels out) beside their bare forward pass, in one worker.

python tests/benchmarks/nets.py                        small U-Net, 2048 x 2048
python tests/benchmarks/nets.py unet-small unet-paper --size 1024 --model folder

The bare pass computes windows of the same sizes, halo included, of noise, with the same layout and
number of threads. Ratios are of CPU seconds and of wall seconds: load spoils the second.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import torch
from inputs import MONTAGE, make_input
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))  # tests.nets.models

from pipeline.blocks import block_grid, window_of
from pipeline.engine import Engine, perform_here
from pipeline.job import ImageJob
from pipeline.ledger import MemoryLedger
from pipeline.nets.predictor import predictor
from pipeline.nets.timings import Timings, listening
from pipeline.output import OutputPlan
from pipeline.recipe import parse_recipe
from pipeline.scratch import FileScratch
from pipeline.sources import SourceSpec
from pipeline.trial import plan_array

#: Depth and channels of U-Nets with random weights; the second is the paper's.
NETWORKS = {"unet-small": (3, 16), "unet-paper": (4, 64)}


@dataclass(frozen=True)
class Seconds:
    """What something took, of the clock and of the CPU."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Measured:
    """One network over one image."""

    network: str
    pixels: int
    computed: int
    run: Seconds
    bare: Seconds
    stages: Timings
    steps: dict[str, float]

    @property
    def row(self) -> list[str]:
        rest = sum(s for step, s in self.steps.items() if not step.endswith("infer"))
        stages = [getattr(self.stages, f"{name}_s") for name in STAGES]
        return [
            self.network,
            f"{self.pixels / 1e6 / self.run.wall:.2f}",
            f"{self.bare.cpu / self.run.cpu:.0%}",
            f"{self.bare.wall / self.run.wall:.0%}",
            f"{self.computed / self.pixels:.2f}",
            *(f"{s:.2f}" for s in stages),
            f"{rest:.2f}",
        ]


STAGES = ("read", "copy", "compute", "decode", "write")


def timed(work: Callable[[], Any]) -> Seconds:
    """Time of this process and all its threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def windows(job: ImageJob) -> list[tuple[int, ...]]:
    """Sides of the window of every block, extended to the stride."""
    method: Any = job.recipe.segment
    blocks, facts = block_grid(job.grid, method.block_sides), method.facts[0]
    boxes = [window_of(blocks, block, facts.halo_px) for block in blocks.tiles()]
    return [
        tuple(-(-n // s) * s for n, s in zip(b.shape, facts.stride_px, strict=True)) for b in boxes
    ]


def bare_pass(job: ImageJob) -> None:
    """The network over windows of noise, and nothing else."""
    method: Any = job.recipe.segment
    net = predictor(method.model[0])
    for sides in windows(job):
        noise = torch.rand((1, len(net.card.channels), *sides))
        window = noise.contiguous(memory_format=net.layout)
        with torch.no_grad():
            net.network.module(window)


def measure(network: str, model: str, image: Path, tile_px: int, block_px: int | None) -> Measured:
    """Run a model over an image, after a run that compiles kernels and opens the model."""
    segment = {"method": "network", "model": model, "block_px": block_px}
    recipe = parse_recipe({"segment": segment}, network)
    source = SourceSpec("ome_zarr", str(image), "image")

    def run(space: Path) -> tuple[ImageJob, Any]:
        job = plan_array(recipe, source, tile_px, space)
        output = OutputPlan(space / "out", space / "objects", recipe, job.info, job.source, "none")
        engine = Engine(job, output, perform_here, MemoryLedger())
        engine._scratch = FileScratch(space / "scratch")  # as workers have it
        return job, engine

    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        run(Path(first))[1].run()
        job, engine = run(Path(second))
        found: list[Any] = []
        with listening() as heard:
            whole = timed(lambda: found.append(engine.run()))
        bare = timed(lambda: bare_pass(job))
    pixels = found[0].pixels
    computed = sum(a * b for a, b in windows(job))
    stages = reduce(add, heard, Timings())
    return Measured(network, pixels, computed, whole, bare, stages, found[0].seconds)


def random_model(network: str, folder: Path) -> str:
    """The folder of a U-Net with random weights."""
    from pipeline.nets.card import parse_card
    from pipeline.nets.model_folder import write_model
    from tests.nets.models import card_content, random_network

    depth, channels = NETWORKS[network]
    content = card_content("unet", {"depth": depth, "base_channels": channels})
    card = parse_card(content, "card")
    write_model(folder / network, random_network(card), card)
    return str(folder / network)


def table_of(rows: list[Measured]) -> Table:
    load = "/".join(f"{n:.1f}" for n in os.getloadavg())
    table = Table(title=f"Networks, one worker; load {load}", title_justify="left")
    table.add_column("network")
    for name in ("Mpx/s", "CPU: bare/run", "wall: bare/run", "halo x"):
        table.add_column(name, justify="right")
    for name in (*STAGES, "other rounds, join, publish, table"):
        table.add_column(f"{name} s", justify="right")
    for row in rows:
        table.add_row(*row.row)
    return table


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=["unet-small"])
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--block", type=int, help="default: as the method chooses")
    parser.add_argument("--model", help="a model folder for all rows, instead of random weights")
    parser.add_argument("--montage", type=Path, default=MONTAGE)
    args = parser.parse_args(argv)
    unknown = [n for n in args.networks if n not in NETWORKS and not args.model]
    if unknown:
        parser.error(f"{unknown[0]} is not one of {', '.join(NETWORKS)}")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        image = make_input(work / "nuclei.ome.zarr", args.size, args.montage).parent
        rows = [
            measure(n, args.model or random_model(n, work), image, args.tile, args.block)
            for n in args.networks
        ]
    Console(width=max(150, Console().width)).print(table_of(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
