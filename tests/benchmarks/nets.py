"""Networks end to end (zarr in, labels out) beside their bare forward pass, in one process.

python tests/benchmarks/nets.py                        small and paper's U-Net, small Mask R-CNN
python tests/benchmarks/nets.py unet-small --size 4096 --device cuda
python tests/benchmarks/nets.py --model folder --command 2

The bare pass computes the same windows, halo included, in the same batches, with the same layout
and number of threads; their pixels are read and normalised beforehand. Ratios are of CPU seconds
and of wall seconds: load spoils the second, and on a GPU only the second means anything.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from itertools import groupby
from operator import add
from pathlib import Path
from typing import Any

import torch
from inputs import MONTAGE, make_input
from measure import run_measured
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))  # tests.nets.models

from pipeline.blocks import block_grid
from pipeline.detection.detect import Detect
from pipeline.engine import Engine
from pipeline.job import ImageJob
from pipeline.ledger import MemoryLedger
from pipeline.methods.base import State
from pipeline.methods.mask_rcnn import MaskRCNN
from pipeline.nets.card import parse_card
from pipeline.nets.device import device, device_name, gpu_allowed
from pipeline.nets.model_folder import find_model, read_card, write_model
from pipeline.nets.model_pass import ModelPass
from pipeline.orders import MapOrder, Order
from pipeline.output import OutputPlan
from pipeline.recipe import parse_recipe
from pipeline.scratch import FileScratch
from pipeline.sources import SourceSpec
from pipeline.timings import Timings, listening
from pipeline.trial import plan_array
from pipeline.view import TileView
from tests.nets.models import card_content, random_network

#: Depth and channels of U-Nets with random weights; the second is the paper's.
UNETS = {"unet-small": (3, 16), "unet-paper": (4, 64)}
#: Shipped models, by name.
SHIPPED = ("mask_rcnn-small",)


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
    gpu_busy: float | None

    @property
    def row(self) -> list[str]:
        rest = sum(s for step, s in self.steps.items() if not step.endswith(("infer", "detect")))
        stages = [getattr(self.stages, f"{name}_s") for name in STAGES]
        return [
            self.network,
            f"{self.pixels / 1e6 / self.run.wall:.2f}",
            f"{self.bare.cpu / self.run.cpu:.0%}",
            f"{self.bare.wall / self.run.wall:.0%}",
            f"{self.computed / self.pixels:.2f}",
            *(f"{s:.2f}" for s in stages),
            f"{rest:.2f}",
            "-" if self.gpu_busy is None else f"{self.gpu_busy:.0%}",
        ]


STAGES = ("read", "copy", "compute", "decode", "write")


def timed(work: Callable[[], Any]) -> Seconds:
    """Time of this process and all its threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


@contextmanager
def gpu_watched() -> Iterator[Callable[[], float | None]]:
    """Sample how busy the GPU is, every 0.1 s; None without a GPU or without nvidia-ml-py."""
    samples: list[int] = []
    done = threading.Event()

    def sample() -> None:
        try:
            while not done.wait(0.1):
                samples.append(torch.cuda.utilization())
        except ModuleNotFoundError as error:
            print(f"no GPU utilisation: {error}", file=sys.stderr)

    thread = threading.Thread(target=sample)
    if device().type == "cuda":
        thread.start()
    yield lambda: sum(samples) / len(samples) / 100 if samples else None
    done.set()
    if thread.is_alive():
        thread.join()


@dataclass(frozen=True)
class BarePass:
    """Windows of a job, read beforehand, and the network over them alone."""

    computed: int
    work: Callable[[], None]


def bare_network(job: ImageJob, state: State) -> BarePass:
    """The first member of an ensemble over the windows of all blocks."""
    method: Any = job.recipe.segment
    blocks = block_grid(job.grid, method.block_sides)
    view = TileView(job, job.grid.tile(0), FileScratch(Path(job.work)), state)
    step = ModelPass(method.settings, 0, view, state, method.precision)
    # Windows of one shape come together, as `run_batches` has them.
    loaded = sorted(((step.load(b), b) for b in blocks.tiles()), key=lambda one: one[0].shape)
    batches = []
    for shape, group in groupby(loaded, key=lambda one: one[0].shape):
        of_shape = list(group)
        size = step.net.batch_sizes(method.batch).of(tuple(shape)) or 1
        batches += [of_shape[i : i + size] for i in range(0, len(of_shape), size)]

    def work() -> None:
        for batch in batches:
            windows = torch.stack([window for window, _ in batch]).to(device())
            step.compute(windows, [block for _, block in batch])
        _synchronised()

    return BarePass(sum(w[0].numel() for w, _ in loaded), work)


def bare_detector(job: ImageJob, state: State) -> BarePass:
    """The network and its heads over the windows of all blocks, as they are seen first."""
    method: Any = job.recipe.segment
    detector, blocks = method.detector(state, job.context), method.blocks(job.context)
    step = Detect(detector, blocks, method.margin_px, method.context_px, method.max_object_px)
    view = TileView(job, job.grid.tile(0), FileScratch(Path(job.work)), state)
    frame, loaded = job.grid.frame_box, []
    for block in blocks.tiles():
        window = step.window(block.core, method.margin_px)
        loaded.append((step._pixels(view, window), window, block.core))

    def work() -> None:
        for pixels, window, core in loaded:
            detector.look(pixels, window, core, frame)
        _synchronised()

    return BarePass(sum(window.size for _, window, _ in loaded), work)


def _synchronised() -> None:
    if device().type == "cuda":
        torch.cuda.synchronize()


def segment_of(model: str, block_px: int | None) -> dict[str, Any]:
    """The method that a model is for."""
    method = "mask_rcnn" if read_card(find_model(model)).is_detector else "network"
    block = {} if block_px is None else {"block_px": block_px}
    return {"method": method, "model": model, **block}


def measure(network: str, model: str, image: Path, tile_px: int, block_px: int | None) -> Measured:
    """Run a model over an image, after a run that compiles kernels and opens the model."""
    recipe = parse_recipe({"segment": segment_of(model, block_px)}, network)
    state: State = {}
    source = SourceSpec("ome_zarr", str(image), "image")

    def perform(orders: Iterable[Order]) -> Iterator[tuple[Order, Any]]:
        for order in orders:
            if isinstance(order, MapOrder):
                state.update(order.shared.load())
            yield order, order.perform()

    def run(space: Path) -> tuple[ImageJob, Any]:
        job = plan_array(recipe, source, tile_px, space)
        output = OutputPlan(space / "out", space / "objects", recipe, job.info, job.source, "none")
        scratch = FileScratch(space / "scratch")  # as workers have it
        return job, Engine(job, output, perform, MemoryLedger(), scratch=scratch)

    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        run(Path(first))[1].run()
        job, engine = run(Path(second))
        found: list[Any] = []
        with listening() as heard, gpu_watched() as busy:
            whole = timed(lambda: found.append(engine.run()))
        bare_of = bare_detector if isinstance(recipe.segment, MaskRCNN) else bare_network
        alone = bare_of(job, state)
        bare = timed(alone.work)
    stages = reduce(add, heard, Timings())
    result = found[0]
    return Measured(
        network, result.pixels, alone.computed, whole, bare, stages, result.seconds, busy()
    )


def model_of(network: str, folder: Path) -> str:
    """A shipped model's name, or the folder of a U-Net with random weights."""
    if network not in UNETS:
        return network
    depth, channels = UNETS[network]
    card = parse_card(card_content("unet", {"depth": depth, "base_channels": channels}), "card")
    write_model(folder / network, random_network(card), card)
    return str(folder / network)


def command_row(network: str, model: str, image: Path, workers: int, work: Path) -> str:
    """What `tilewright run` takes for the same image, its server and workers included."""
    recipe, out = work / f"{network}.yaml", work / f"{network}-out"
    recipe.write_text(f"segment: {segment_of(model, None)}\n")
    command = [str(Path(sys.executable).parent / "tilewright"), "run", str(recipe)]
    command += [str(image), str(out), "--workers", str(workers)]
    usage = run_measured(command, work / f"{network}.log", 3600)
    if usage.returncode:
        raise subprocess.CalledProcessError(usage.returncode, command, usage.stdout, usage.stderr)
    spent = f"{usage.wall_s:.1f} s, CPU {usage.cpu_s:.1f} s"
    return f"{network}: tilewright run, {workers} workers: {spent}"


def table_of(rows: list[Measured]) -> Table:
    load = "/".join(f"{n:.1f}" for n in os.getloadavg())
    table = Table(
        title=f"Networks, one process, {device_name()}; load {load}", title_justify="left"
    )
    table.add_column("network")
    for name in ("Mpx/s", "CPU: bare/run", "wall: bare/run", "halo x"):
        table.add_column(name, justify="right")
    for name in (*STAGES, "other rounds, join, publish, table"):
        table.add_column(f"{name} s", justify="right")
    table.add_column("GPU busy", justify="right")
    for row in rows:
        table.add_row(*row.row)
    return table


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    known = [*UNETS, *SHIPPED]
    parser.add_argument("networks", nargs="*", help=f"of {', '.join(known)}; default: all")
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--block", type=int, help="default: as the method chooses")
    parser.add_argument("--model", help="a model folder, as the only row")
    parser.add_argument("--montage", type=Path, default=MONTAGE)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--command", type=int, metavar="WORKERS", help="time tilewright run, too")
    args = parser.parse_args(argv)
    networks = [args.model] if args.model else args.networks or known
    if unknown := [n for n in networks if n not in known and not args.model]:
        parser.error(f"{unknown[0]} is not one of {', '.join(known)}")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no GPU")
    with tempfile.TemporaryDirectory() as name, gpu_allowed(args.device == "cuda"):
        work = Path(name)
        image = make_input(work / "nuclei.ome.zarr", args.size, args.montage).parent
        models = {Path(n).name: model_of(n, work) for n in networks}
        rows = [measure(n, model, image, args.tile, args.block) for n, model in models.items()]
        Console(width=max(160, Console().width)).print(table_of(rows))
        for n, model in models.items() if args.command else ():
            print(command_row(n, model, image, args.command, work))
    return 0


if __name__ == "__main__":
    sys.exit(main())
