"""Measure tilewright beside its peers: time, CPU, memory and exactness, one table.

python tests/benchmarks/run.py                      J1 at 8192, J2 at 4096, all peers
python tests/benchmarks/run.py --full               also J1 at 16384 and J2 at 8192
python tests/benchmarks/run.py J1=8192 --peers cc3d_whole tilewright_run --repeat 3
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import zarr
from compare import Verdict, compare
from inputs import MONTAGE, make_input
from measure import Usage, run_measured, spare_descendants
from rich.console import Console
from rich.table import Table

from flows.server import start_server

HERE = Path(__file__).parent
REFERENCE = "skimage_whole"
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


@dataclass(frozen=True)
class Peer:
    """One row of a table.

    `largest` is the size above which it runs only when asked for; `equals` names the peer whose
    labels it has to equal, where that is not the reference (another definition of the job).
    """

    name: str
    script: str
    jobs: tuple[str, ...]
    variant: str = ""
    largest: int = 1 << 30
    equals: str = ""


PEERS = [
    Peer("skimage_whole", "skimage_whole", ("J1", "J2")),
    Peer("cc3d_whole", "cc3d_whole", ("J1",)),
    Peer("scipy_whole", "scipy_whole", ("J1",)),
    Peer("tilewright_whole", "tilewright_whole", ("J2",)),
    Peer("tilewright_run", "tilewright_run", ("J1",)),
    Peer("tilewright_tiled", "tilewright_run", ("J2",), equals="tilewright_whole"),
    Peer("patchworks", "patchworks_peer", ("J1", "J2")),
    Peer("patchworks_touch", "patchworks_peer", ("J2",), variant="touch"),
    Peer("bioimage_py", "bioimage_peer", ("J1", "J2")),
    Peer("dask_image_label", "dask_image_label", ("J1",), largest=8192),
]


@dataclass
class Row:
    """All runs of one peer at one job and size."""

    job: str
    size: int
    peer: str
    runs: list[Usage] = field(default_factory=list)
    records: list[dict] = field(default_factory=list)
    verdict: Verdict | None = None
    problem: str = ""

    def median(self, attribute: str) -> float:
        return statistics.median(getattr(run, attribute) for run in self.runs)

    def best(self, key: str) -> float | None:
        values = [r[key] for r in self.records if r.get(key) is not None]
        return min(values) if values else None

    def as_json(self) -> dict:
        names = ("wall_s", "cpu_s", "rss_peak_mb", "pss_peak_mb", "processes")
        return {
            "job": self.job,
            "size": self.size,
            "peer": self.peer,
            "version": self.records[0].get("version") if self.records else None,
            "runs": [{name: getattr(run, name) for name in names} for run in self.runs],
            "work_s": [r.get("work_s") for r in self.records],
            "kernel_s": [r.get("kernel_s") for r in self.records],
            "stages": [r["stages"] for r in self.records if "stages" in r],
            "objects": self.verdict.objects if self.verdict else None,
            "exact": self.verdict.exact if self.verdict else None,
            "verdict": self.verdict.text if self.verdict else self.problem,
        }


def why_failed(usage: Usage) -> str:
    """The last line that says something, for a row that did not finish."""
    if usage.timed_out:
        return f"stopped after {usage.wall_s:.0f} s"
    lines = [line.strip() for line in usage.stderr.splitlines() if line.strip()]
    text = lines[-1] if lines else f"exit status {usage.returncode}"
    if "No module named" in text:
        return "not installed: " + text.rsplit(" ", 1)[-1].strip("'")
    return "failed: " + text[:70]


def labels_of(reference: Path, name: str) -> Path:
    """Where the labels of a peer are kept that another one has to equal."""
    return reference.with_name(f"{reference.stem}_{name}.zarr")


def run_peer(peer: Peer, row: Row, image: Path, reference: Path, work: Path, args) -> None:
    """One run of one peer, in its own processes, with its own empty scratch folder."""
    folder = Path(tempfile.mkdtemp(prefix=f"{peer.name}_", dir=work))
    out = reference if peer.name == REFERENCE else folder / "labels.zarr"
    if peer.name == REFERENCE:
        shutil.rmtree(reference, ignore_errors=True)
    scratch = folder / "scratch"
    scratch.mkdir()
    command = [sys.executable, str(HERE / "peers" / f"{peer.script}.py")]
    command += ["--job", row.job, "--image", str(image), "--out", str(out)]
    command += ["--scratch", str(scratch), "--workers", str(args.workers)]
    command += ["--variant", peer.variant] if peer.variant else []
    usage = run_measured(command, folder / "log", args.timeout, **ONE_THREAD)
    if usage.returncode != 0 or usage.timed_out:
        row.problem = why_failed(usage)
        (args.logs / f"{row.job}-{row.size}-{peer.name}.log").write_text(usage.stderr)
    else:
        record = json.loads(usage.stdout.splitlines()[-1])
        row.runs.append(usage)
        row.records.append(record)
        if row.verdict is None:
            labels = zarr.open_array(record["labels"], mode="r")
            model = labels_of(reference, peer.equals) if peer.equals else reference
            row.verdict = compare(zarr.open_array(model, mode="r"), labels)
            if any(other.equals == peer.name for other in PEERS):
                shutil.copytree(record["labels"], labels_of(reference, peer.name))
    shutil.rmtree(folder, ignore_errors=True)


def measure_job(job: str, size: int, work: Path, args) -> list[Row]:
    """Run every peer `--repeat` times, in turn rather than one after the other.

    A change of the machine's load then falls on all peers alike.
    """
    image = make_input(work / f"input_{size}.ome.zarr", size, args.montage)
    reference = work / f"reference_{job}_{size}.zarr"
    wanted = [p for p in PEERS if job in p.jobs]
    if args.peers:
        wanted = [p for p in wanted if p.name in (*args.peers, REFERENCE)]
    else:
        wanted = [p for p in wanted if size <= p.largest]
    rows = {p.name: Row(job, size, p.name) for p in wanted}
    for turn in range(args.repeat):
        for peer in wanted:
            if rows[peer.name].problem:
                continue
            args.console.print(f"{job} {size} {peer.name} ({turn + 1}/{args.repeat})", style="dim")
            run_peer(peer, rows[peer.name], image, reference, work, args)
            if peer.name == REFERENCE and rows[peer.name].problem:
                raise SystemExit(f"the reference did not run: {rows[peer.name].problem}")
    for path in reference.parent.glob(f"{reference.stem}*.zarr"):
        shutil.rmtree(path, ignore_errors=True)
    return list(rows.values())


def table_of(rows: list[Row], workers: int) -> Table:
    """One table for one job and size; x columns are relative to the first row."""
    job, size, base = rows[0].job, rows[0].size, rows[0]
    table = Table(title=f"{job}, {size} x {size}, {workers} workers", title_justify="left")
    table.add_column("peer")
    for name in ("wall s", "x", "CPU s", "x", "RSS MB", "PSS MB", "work s", "kernel s", "objects"):
        table.add_column(name, justify="right")
    table.add_column("same as untiled")
    for row in rows:
        if not row.runs:
            table.add_row(row.peer, *[""] * 9, row.problem)
            continue
        wall, cpu = row.median("wall_s"), row.median("cpu_s")
        work, kernel = row.best("work_s"), row.best("kernel_s")
        table.add_row(
            row.peer,
            f"{wall:.1f}",
            f"{wall / base.median('wall_s'):.2f}",
            f"{cpu:.1f}",
            f"{cpu / base.median('cpu_s'):.2f}",
            f"{row.median('rss_peak_mb'):.0f}",
            f"{row.median('pss_peak_mb'):.0f}",
            f"{work:.1f}" if work is not None else "",
            f"{kernel:.2f}" if kernel is not None else "",
            f"{row.verdict.objects:,}" if row.verdict else "",
            row.problem or (row.verdict.text if row.verdict else ""),
        )
    return table


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("jobs", nargs="*", metavar="JOB=SIZE", help="default: J1=8192 J2=4096")
    parser.add_argument("--full", action="store_true", help="add J1=16384 and J2=8192")
    parser.add_argument("--peers", nargs="+", choices=[p.name for p in PEERS])
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for one run")
    parser.add_argument("--montage", type=Path, default=MONTAGE)
    parser.add_argument("--work", type=Path, help="folder for images (default: temporary)")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"))
    args = parser.parse_args(argv)
    chosen = args.jobs or ["J1=8192", "J2=4096"]
    if args.full:
        chosen += ["J1=16384", "J2=8192"]
    args.jobs = []
    for text in chosen:
        job, _, size = text.partition("=")
        if job not in ("J1", "J2") or not size.isdigit():
            parser.error(f"{text!r} is not J1=SIZE or J2=SIZE")
        args.jobs.append((job, int(size)))
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    args.console = Console(width=max(130, Console().width))
    work = args.work or Path(tempfile.mkdtemp(prefix="tilewright-bench-"))
    work.mkdir(parents=True, exist_ok=True)
    args.logs = args.json.resolve().parent
    args.logs.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    server = start_server(Path("~/.tilewright/prefect"))
    server.wait()  # warm for all runs, as it is on a workstation where runs follow each other
    # Each run finds it by itself, as a command does; it must not take it for the user's own.
    os.environ.pop("PREFECT_API_URL", None)
    spare_descendants()
    try:
        for job, size in args.jobs:
            measured = measure_job(job, size, work, args)
            args.console.print(table_of(measured, args.workers))
            rows += measured
            document = {
                "machine": {
                    "cpus": len(os.sched_getaffinity(0)),
                    "python": platform.python_version(),
                    "system": platform.platform(terse=True),
                },
                "workers": args.workers,
                "repeat": args.repeat,
                "rows": [row.as_json() for row in rows],
            }
            args.json.write_text(json.dumps(document, indent=1) + "\n")
    finally:
        server.stop()
        if args.work is None:
            shutil.rmtree(work, ignore_errors=True)
    args.console.print(f"written: {args.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
