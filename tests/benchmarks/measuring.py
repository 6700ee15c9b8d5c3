"""What the measuring pass costs, beside scikit-image and cc3d, on one plane.

    python tests/benchmarks/measuring.py [--side 4096] [--spacing 48]

Objects are discs on a jittered grid; all tools measure the same labels in one process. Times are
CPU seconds. tilewright's are those of a whole run in tiles of 1024 px with records in memory, less
those of a run that measures nothing more: the pass and its part of the table or file.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cc3d
import numpy as np
from skimage.measure import regionprops_table

from pipeline.engine import Engine
from pipeline.ledger import MemoryLedger
from pipeline.output import OutputPlan
from pipeline.pyramid import open_level
from pipeline.recipe import parse_recipe
from pipeline.steps import perform_here
from pipeline.trial import plan_array, save_array

CASES: dict[str, dict[str, Any]] = {
    "perimeter": {"shape": ["perimeter"]},
    "hull": {"shape": ["hull"]},
    "euler": {"shape": ["euler"]},
    "shape": {"shape": True},
    "weighted_centroid": {"weighted_centroid": True},
    "quantiles": {"quantiles": [0.5]},
    "ring of 5 px": {"ring_px": 5},
    "texture": {"texture": True},
    "neighbours": {"neighbours": True},
    "neighbours within 10 px": {"neighbours": {"within_px": 10}},
    "all": {
        "shape": True,
        "weighted_centroid": True,
        "quantiles": [0.5],
        "ring_px": 5,
        "texture": True,
        "neighbours": {"within_px": 10},
    },
}
PEERS: dict[str, tuple[str, ...]] = {
    "area, bbox, centroid, intensities": (
        *("label", "area", "bbox", "centroid", "intensity_mean", "intensity_min", "intensity_max"),
        "intensity_std",
    ),
    "perimeter": ("label", "perimeter", "perimeter_crofton"),
    "hull": ("label", "area_convex", "solidity", "feret_diameter_max"),
    "euler": ("label", "euler_number"),
    "weighted_centroid": ("label", "centroid_weighted"),
}


def discs(side: int, spacing: int) -> np.ndarray:
    """An image in which every cell of a grid holds a disc above 100."""
    generator = np.random.default_rng(0)
    y, x = np.indices((side, side), np.float32)
    cells = -(-side // spacing)
    centre = (generator.random((2, cells, cells)) * 0.3 + 0.35) * spacing
    radius = (generator.random((cells, cells)) * 0.12 + 0.24) * spacing
    row, column = (y // spacing).astype(int), (x // spacing).astype(int)
    dy = y % spacing - centre[0][row, column]
    dx = x % spacing - centre[1][row, column]
    inside = dy**2 + dx**2 < radius[row, column] ** 2
    noise = generator.integers(0, 90, (side, side), np.uint8)
    return np.where(inside, noise + 110, noise).astype(np.uint8)


def ours(
    image: np.ndarray, measure: dict[str, Any], folder: Path, **output: str
) -> tuple[float, np.ndarray]:
    """CPU seconds of a run, and the labels."""
    recipe = parse_recipe(
        {
            "segment": {"method": "threshold", "foreground": {"value": 100}},
            "measure": measure,
            "output": {"pyramid": False, **output},
        },
        "recipe",
    )
    space = Path(tempfile.mkdtemp(dir=folder))
    job = plan_array(recipe, save_array(image, folder), 1024, space)
    job = dataclasses.replace(
        job, info=dataclasses.replace(job.info, pixel_size_um=(None, 0.5, 0.5))
    )
    plan = OutputPlan(
        space / "staged", space / "objects.parquet", recipe, job.info, job.source, "none"
    )
    begun = time.process_time()
    done = Engine(job, plan, perform_here, MemoryLedger()).run()
    seconds = time.process_time() - begun
    return seconds, np.asarray(open_level(plan.labels(done.count).path, 0)[...])


def timed(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--spacing", type=int, default=48)
    parser.add_argument("--without-peers", action="store_true")
    given = parser.parse_args()
    image = discs(given.side, given.spacing)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = image[:256, :256]
        ours(small, CASES["all"], folder, outlines="geojson", table="anndata")  # compiles
        bare, labels = min((ours(image, {}, folder) for _ in range(2)), key=lambda run: run[0])
        labels = labels.reshape(image.shape).astype(np.int64)
        print(f"{image.size / 1e6:.1f} Mpx, {labels.max():,} objects")
        for case, measure in CASES.items():
            print(f"tilewright   {case:34} {ours(image, measure, folder)[0] - bare:6.2f} s")
        for key, value in (("outlines", "geojson"), ("table", "anndata")):
            seconds = ours(image, {}, folder, **{key: value})[0] - bare
            print(f"tilewright   {key + ': ' + value:34} {seconds:6.2f} s", flush=True)
        if given.without_peers:
            return
        for case, names in PEERS.items():
            seconds = timed(lambda n=names: regionprops_table(labels, image, properties=n))  # type: ignore[misc]
            print(f"scikit-image {case:34} {seconds:6.2f} s", flush=True)
        unsigned = labels.astype(np.uint32)
        print(f"cc3d         statistics {timed(lambda: cc3d.statistics(unsigned)):30.2f} s")
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
