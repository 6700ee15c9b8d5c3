"""What both tilewright rows share: the recipe, and where the command leaves what."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from jobs import DISTANCE_SIGMA, MIN_DISTANCE, SIGMA, THRESHOLD


def recipe(job: str, folder: Path) -> Path:
    """Write the recipe for `job`, filled with the constants that all peers share."""
    text = (Path(__file__).parents[1] / "recipes" / f"{job.lower()}.yaml").read_text()
    filled = text.format(
        threshold=THRESHOLD,
        sigma=SIGMA,
        distance_sigma=DISTANCE_SIGMA,
        min_distance=MIN_DISTANCE,
    )
    path = folder / f"{job.lower()}.yaml"
    path.write_text(filled)
    return path


def result(out: Path, job: str) -> dict[str, object]:
    """Labels and stage seconds of a finished run over one image."""
    with sqlite3.connect(out / "run.sqlite") as db:
        ((text,),) = db.execute("SELECT details FROM image WHERE status = 'published'")
    details = json.loads(text)
    timings = json.loads((out / "run.json").read_text())["timings"]
    return {
        "labels": f"{details['location']}/labels/{job.lower()}/0",
        "stages": {**details["seconds"], **timings},
        # From the first tile of the segmentation to the last published shard.
        "work_s": sum(s for stage, s in details["seconds"].items() if stage != "table"),
        "worker_peak_mb": details["peak_bytes_measured"] / 1e6,
        "worker_planned_mb": details["peak_bytes_predicted"] / 1e6,
        "package": "tilewright",
    }
