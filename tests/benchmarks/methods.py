"""Each method against its library's call on the whole image: CPU and wall time, in one run.

python tests/benchmarks/methods.py [--size 4096] [--repeat 3]

Both read the same zarr array, take turns, and run in this process on one thread. Ours also measures
every object and writes labels. On two cores wall time is half of the CPU time at best; see `make
bench` for whole commands.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zarr
from scipy import ndimage
from skimage import filters
from sklearn import cluster, mixture

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from inputs import make_input  # noqa: E402

from pipeline.engine import Engine, perform_here  # noqa: E402
from pipeline.ledger import MemoryLedger  # noqa: E402
from pipeline.output import OutputPlan  # noqa: E402
from pipeline.recipe import parse_recipe  # noqa: E402
from pipeline.sources import SourceSpec  # noqa: E402
from pipeline.trial import plan_array  # noqa: E402

Image = np.ndarray
TILE = 2048


def _objects(mask: Image) -> None:
    ndimage.label(mask, np.ones((3, 3)))


def _kmeans(image: Image) -> None:
    sample = image.reshape(-1, 1)[:: max(1, image.size // 100_000)].astype(float)
    cluster.KMeans(3, n_init=4, random_state=0).fit(sample).predict(image.reshape(-1, 1))


def _gmm(image: Image) -> None:
    sample = image.reshape(-1, 1)[:: max(1, image.size // 50_000)].astype(float)
    mixture.GaussianMixture(3, random_state=0).fit(sample).predict(image.reshape(-1, 1))


#: Method parameters, and what the library's user would call on the whole image.
CASES: dict[str, tuple[dict[str, object], Callable[[Image], None]]] = {
    "threshold otsu": (
        {"method": "threshold"},
        lambda image: _objects(image > filters.threshold_otsu(image)),
    ),
    "threshold li": (
        {"method": "threshold", "foreground": {"value": "li"}},
        lambda image: _objects(image > filters.threshold_li(image)),
    ),
    "local_threshold gaussian": (
        {"method": "local_threshold", "block_px": 51},
        lambda image: _objects(image > filters.threshold_local(image, 51)),
    ),
    "local_threshold sauvola": (
        {"method": "local_threshold", "rule": "sauvola", "block_px": 51},
        lambda image: _objects(image > filters.threshold_sauvola(image, 51)),
    ),
    "hysteresis": (
        {"method": "hysteresis", "weak": 10, "strong": 30},
        lambda image: _objects(filters.apply_hysteresis_threshold(image, 10, 30)),
    ),
    "kmeans": ({"method": "kmeans", "k": 3}, _kmeans),
    "gmm": ({"method": "gmm", "k": 3}, _gmm),
}


def run_ours(segment: dict[str, object], spec: SourceSpec, folder: Path) -> None:
    recipe = parse_recipe({"segment": segment, "output": {"pyramid": False}}, "benchmark")
    job = plan_array(recipe, spec, TILE, folder)
    output = OutputPlan(
        folder / "staged", folder / "objects.parquet", recipe, job.info, spec, "none"
    )
    Engine(job, output, perform_here, MemoryLedger(), 2).run()


def run_library(call: Callable[[Image], None], path: Path) -> None:
    stored = zarr.open_array(path / "0", mode="r")
    call(np.asarray(stored[...]).squeeze())


def measure(action: Callable[[], None]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        path = make_input(Path(name) / "image.ome.zarr", options.size).parent
        spec = SourceSpec("ome_zarr", str(path), "image")
        print(f"{options.size} x {options.size}, medians of {options.repeat}, one thread")
        print(f"{'method':26} {'ours CPU s':>10} {'library':>8} {'x':>6}")
        for case, (segment, call) in CASES.items():
            times: dict[str, list[float]] = {"ours": [], "library": []}
            for k in range(options.repeat + 1):
                with tempfile.TemporaryDirectory(dir=name) as space:
                    ours = measure(lambda s=segment, f=space: run_ours(s, spec, Path(f)))
                library = measure(lambda c=call: run_library(c, path))
                if k:  # the first turn compiles and imports
                    times["ours"].append(ours[1])
                    times["library"].append(library[1])
            a, b = (statistics.median(times[key]) for key in ("ours", "library"))
            print(f"{case:26} {a:10.2f} {b:8.2f} {a / b:6.2f}", flush=True)


if __name__ == "__main__":
    main()
