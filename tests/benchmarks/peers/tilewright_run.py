"""The tilewright command itself, as a user starts it: server, workers, tables and all.

The three functions below are the only places that know the command's layout.
"""

import json
import subprocess
import sys
from pathlib import Path

from _peer import main
from jobs import DISTANCE_SIGMA, MIN_DISTANCE, SIGMA, THRESHOLD


def recipe(job: str) -> str:
    """The recipe for `job`, filled with the constants that all peers share."""
    text = (Path(__file__).parents[1] / "recipes" / f"{job.lower()}.yaml").read_text()
    return text.format(
        threshold=THRESHOLD,
        sigma=SIGMA,
        distance_sigma=DISTANCE_SIGMA,
        min_distance=MIN_DISTANCE,
    )


def find_labels(out: Path) -> str:
    """The full-resolution label array below the output folder."""
    for metadata in sorted(out.rglob("zarr.json"), key=lambda p: (len(p.parts), p)):
        node = json.loads(metadata.read_text())
        array = metadata.parent
        if node["node_type"] == "array" and "labels" in array.parts and array.name in ("0", "s0"):
            return str(array)
    raise FileNotFoundError(f"no label array below {out}")


def timings(out: Path) -> dict[str, float]:
    """Seconds of every stage, from the run's record."""
    return json.loads((out / "run.json").read_text()).get("timings", {})


def run(args):
    scratch, out = Path(args.scratch), Path(args.out)
    path = scratch / f"{args.job.lower()}.yaml"
    path.write_text(recipe(args.job))
    command = [str(Path(sys.executable).parent / "tilewright"), "run", str(path), args.image]
    command += [str(out), "--workers", str(args.workers)]
    status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode
    if status != 0:
        sys.exit(f"tilewright run ended with status {status}")
    return {"labels": find_labels(out), "stages": timings(out), "package": "tilewright"}


if __name__ == "__main__":
    main(run)
