"""Each method against its library's call on the whole image, in one run.

python tests/benchmarks/methods.py [--size 4096] [--repeat 3] [--only "gmm,threshold otsu"]

All read the same zarr arrays and take turns. CPU time is that of one process with one thread; wall
time is that of two worker processes that were there before, and of the library in this process.
Ours also measures every object and writes labels; "same result" is the library's call with a table
of areas, places and mean values by scikit-image and the labels written as zarr.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import zarr
from skimage.measure import regionprops_table
from threadpoolctl import threadpool_limits

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from inputs import make_input, tissue  # noqa: E402
from method_cases import BOX_PX, CASES, Case, places  # noqa: E402

from pipeline.engine import Engine  # noqa: E402
from pipeline.ledger import Ledger, MemoryLedger  # noqa: E402
from pipeline.manifest import Manifest, ManifestLedger  # noqa: E402
from pipeline.orders import Order, Receipt  # noqa: E402
from pipeline.output import OutputPlan  # noqa: E402
from pipeline.recipe import parse_recipe  # noqa: E402
from pipeline.sources import SourceSpec  # noqa: E402
from pipeline.steps import Executor, perform_here  # noqa: E402
from pipeline.trial import plan_array  # noqa: E402

TILE = 2048
#: Orders that wait at the workers.
AHEAD = 4


def perform(order: Order) -> Receipt:
    return order.perform()


def two_workers(pool: ProcessPoolExecutor) -> Executor:
    """An executor of two processes."""

    def execute(orders: Iterable[Order]) -> Iterator[tuple[Order, Receipt | BaseException]]:
        running: dict[Future[Receipt], Order] = {}
        for order in orders:
            running[pool.submit(perform, order)] = order
            if len(running) >= AHEAD:
                yield from finished(running)
        while running:
            yield from finished(running)

    def finished(running: dict[Future[Receipt], Order]) -> Iterator[tuple[Order, Receipt]]:
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            yield running.pop(future), future.result()

    return execute


def run_ours(
    segment: dict[str, Any], spec: SourceSpec, folder: Path, pool: ProcessPoolExecutor | None
) -> None:
    source = {"channels": [0, 1, 2]} if "tissue" in spec.path else {}
    content = {"source": source, "segment": segment, "output": {"pyramid": False}}
    recipe = parse_recipe(content, "benchmark")
    job = plan_array(recipe, spec, min(TILE, _tile_for_two(spec)) if pool else TILE, folder)
    output = OutputPlan(
        folder / "staged", folder / "objects.parquet", recipe, job.info, spec, "none"
    )
    ledger: Ledger = MemoryLedger()
    execute: Executor = perform_here
    if pool is not None:
        manifest = Manifest(folder / "run.sqlite", write=True)
        ledger = ManifestLedger(manifest, "work", Path(job.work) / "states")
        execute = two_workers(pool)
    Engine(job, output, execute, ledger, 1).run()


def _tile_for_two(spec: SourceSpec) -> int:
    """A side that gives both workers something to do."""
    stored = zarr.open_array(Path(spec.path) / "0", mode="r")
    return max(256, stored.shape[-1] // 4)


def read(path: Path) -> np.ndarray:
    stored = np.asarray(zarr.open_array(path / "0", mode="r")[...])
    if stored.ndim == 2:
        return stored
    return np.ascontiguousarray(np.moveaxis(stored.reshape(3, *stored.shape[-2:]), 0, -1))


def run_library(case: Case, path: Path) -> None:
    case.call(read(path))


def run_library_fully(case: Case, path: Path, folder: Path) -> None:
    image = read(path)
    found = case.call(image)
    if found.dtype.kind == "f" or found.ndim == 3:  # no labels to measure
        zarr.save_array(folder / "labels.zarr", found)
        return
    regionprops_table(
        found.astype(np.int32),
        image,
        properties=("label", "area", "bbox", "centroid", "intensity_mean"),
    )
    zarr.save_array(folder / "labels.zarr", found.astype(np.uint32))


def companions(folder: Path, image: np.ndarray) -> None:
    """Seeds and boxes beside the grey image."""
    found = places(image)
    text = "y,x\n" + "".join(f"{y},{x}\n" for y, x in found)
    (folder / "seeds.csv").write_text(text)
    margin = BOX_PX - 8
    boxes = [(max(0, y - margin), max(0, x - margin), y + margin, x + margin) for y, x in found]
    lines = "".join(",".join(map(str, box)) + "\n" for box in boxes)
    (folder / "boxes.csv").write_text("y_start,x_start,y_stop,x_stop\n" + lines)


def measure(action: Callable[[], None]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - wall, time.process_time() - cpu


def compare(
    case: Case, path: Path, folder: Path, repeat: int, pool: ProcessPoolExecutor
) -> dict[str, float]:
    """Medians of CPU and wall seconds."""
    segment = json.loads(json.dumps(case.segment).replace("{folder}", str(folder)))
    spec = SourceSpec("ome_zarr", str(path), "image")
    times: dict[str, list[float]] = {}
    for k in range(repeat + 1):
        for name in ("ours", "two", "library", "fully"):
            with tempfile.TemporaryDirectory(dir=folder) as space:
                actions = {
                    "ours": lambda: run_ours(segment, spec, Path(space), None),
                    "two": lambda: run_ours(segment, spec, Path(space), pool),
                    "library": lambda: run_library(case, path),
                    "fully": lambda: run_library_fully(case, path, Path(space)),
                }
                wall, cpu = measure(actions[name])
            if k:  # the first turn compiles and imports
                times.setdefault(f"{name} wall", []).append(wall)
                times.setdefault(f"{name} cpu", []).append(cpu)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", default="", help="names of cases, separated by ;")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    chosen = {name for name in CASES if not options.only or name in options.only.split(";")}
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as name,
        ProcessPoolExecutor(2, context, cv2.setNumThreads, (1,)) as pool,
        threadpool_limits(1),
    ):
        folder = Path(name)
        print(f"side {options.size}, medians of {options.repeat}; CPU s one thread, wall s two")
        print(
            f"{'method':30} {'px':>5} {'CPU':>6} {'library':>8} {'x':>5} {'same result':>11} "
            f"{'x':>5} | {'wall':>6} {'library':>8} {'x':>5}"
        )
        for case_name in CASES:
            if case_name not in chosen:
                continue
            case = CASES[case_name]
            size = options.size
            if case.colors:
                path = tissue(folder / f"tissue-{size}.ome.zarr", size)
            else:
                path = make_input(folder / f"nuclei-{size}.ome.zarr", size).parent
                companions(folder, read(path))
            found = compare(case, path, folder, options.repeat, pool)
            ours, library, fully = (found[f"{n} cpu"] for n in ("ours", "library", "fully"))
            wall, whole = found["two wall"], found["library wall"]
            print(
                f"{case_name:30} {size:5} {ours:6.2f} {library:8.2f} {ours / library:5.2f} "
                f"{fully:11.2f} {ours / fully:5.2f} | {wall:6.2f} {whole:8.2f} {wall / whole:5.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
