"""kill -9 at random moments: the same command finishes, with the same labels, and repeats nothing.

`make test-crash` (TILEWRIGHT_CRASH_TESTS=long) runs many trials; seeds are fixed and printed.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

import psutil
import pytest
import yaml

from flows.dataset import MOVING
from flows.image_records import ImageRecords
from pipeline.manifest import Manifest, ManifestLedger
from pipeline.orders import CoarseOrder, PublishProbabilitiesOrder
from pipeline.publication import Publication
from pipeline.pyramid import Pyramid
from pipeline.record_files import open_record
from pipeline.run_folder import RunFolder
from pipeline.status import status_text
from pipeline.table_file import table_digest
from pipeline.verify import verify_folder

pytestmark = pytest.mark.crash

TRIALS = 24 if os.environ.get("TILEWRIGHT_CRASH_TESTS") == "long" else 3
SEED = 20240
KINDS = ("flow", "worker", "everything")
MARK = "TILEWRIGHT_CRASH_TRIAL"
LIMIT_SECONDS = 200.0
#: A line of the log for a batch that was recorded: work, step, tiles or shards.
BATCH = re.compile(r"manifest: (\S+) (\S+) \[([\d, ]+)\]: [\d.]+ s$", re.MULTILINE)

Numbers = set[tuple[str, str, int]]
Files = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Clean:
    """A run that nobody disturbed."""

    archive: Path
    labels_digest: str
    table_digest: str
    batches: int


@dataclass(frozen=True)
class Recorded:
    """What the records said after the kill."""

    numbers: Numbers
    published: dict[str, Files]
    ingested: Files
    log_bytes: int


@pytest.fixture(scope="module")
def clean(undisturbed: tuple[Path, Path]) -> Clean:
    archive, out = undisturbed
    objects = table_digest(out / "objects.parquet")
    return Clean(archive, labels_digest(out), objects, batches_done(out))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("trial", range(TRIALS))
def test_a_killed_run_continues(trial: int, clean: Clean, tilewright: Any, tmp_path: Path) -> None:
    rng = random.Random(SEED + trial)
    kind = KINDS[trial % len(KINDS)]
    # One moment from each part of the run, so that a few trials see all of its stages.
    batches = int(clean.batches * (trial * 7 % TRIALS + rng.random()) / TRIALS)
    delay = rng.uniform(0.0, 0.4)
    print(f"trial {trial}, seed {SEED + trial}: kill -9 of {kind}")
    print(f"  {delay:.2f} s after batch {batches} of {clean.batches}")
    out, mark = tmp_path / "out", uuid.uuid4().hex
    process = start(tilewright, clean.archive, out, mark)
    wait_for(lambda: batches_done(out) >= batches, process)
    with suppress(TimeoutError):
        wait_for(lambda: False, process, delay)
    kill(kind, process, tilewright.server_home, rng)
    if kind == "worker":
        output, _ = process.communicate(timeout=240)
        assert process.returncode == 0, output
    else:
        process.communicate(timeout=LIMIT_SECONDS)
        assert not left(mark, tilewright.server_home)
        before = recorded(out)
        assert str(out) in status_text(out)[0]
        print(f"  {len(before.numbers)} tiles and shards, {len(before.published)} images recorded")
        again = start(tilewright, clean.archive, out, mark)
        output, _ = again.communicate(timeout=240)
        assert again.returncode == 0, output
        check_nothing_repeated(before, out)
    assert "Traceback" not in output
    assert not left(mark, tilewright.server_home)
    check_result(out, clean)


def start(tilewright: Any, archive: Path, out: Path, mark: str = "") -> Popen[str]:
    arguments = ("run", "nuclei", archive, out, "--tile", 256, "--workers", 2)
    process: Popen[str] = tilewright.start(*arguments, **{MARK: mark})
    return process


def wait_for(
    condition: Callable[[], bool], process: Popen[str], seconds: float = LIMIT_SECONDS
) -> None:
    """Wait until the condition holds or the process has ended."""
    end = time.monotonic() + seconds
    while not condition() and process.poll() is None:
        if time.monotonic() > end:
            raise TimeoutError
        with suppress(psutil.TimeoutExpired):
            psutil.Process(process.pid).wait(timeout=0.02)


def batches_done(out: Path) -> int:
    """Batches of the large image that the log names."""
    log = out / ".tilewright" / "run.log"
    return len(BATCH.findall(log.read_text())) if log.exists() else -1


def kill(kind: str, process: Popen[str], server_home: Path, rng: random.Random) -> None:
    """kill -9 of a random worker, of the flow, or of all in random order."""
    with suppress(psutil.NoSuchProcess):  # it had finished before the moment came
        flow = psutil.Process(process.pid)
        victims = [flow]
        if kind == "worker":
            # The flow starts the fork server, and that the workers.
            workers = [worker for child in flow.children() for worker in child.children()]
            victims = [rng.choice(workers)] if workers else []
        elif kind == "everything":
            server = psutil.Process(json.loads((server_home / "server.json").read_text())["pid"])
            victims = [flow, *flow.children(recursive=True), server, *server.children(True)]
            rng.shuffle(victims)
        for victim in victims:
            with suppress(psutil.NoSuchProcess):
                victim.kill()


def left(mark: str, server_home: Path) -> list[psutil.Process]:
    """Processes of the trial that still live, the shared server's aside, after time to end."""
    server = 0
    with suppress(OSError, ValueError):
        server = int(json.loads((server_home / "server.json").read_text())["pid"])
    found = [process for process in psutil.process_iter() if is_marked(process, mark)]
    found = [p for p in found if server not in (p.pid, *(parent.pid for parent in p.parents()))]
    return psutil.wait_procs(found, timeout=20)[1]


def is_marked(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark
    except psutil.Error:
        return False


def recorded(out: Path) -> Recorded:
    """What a rerun must not do again."""
    with closing(sqlite3.connect(out / "run.sqlite")) as records:
        batches = records.execute("SELECT work, step, numbers FROM batch").fetchall()
        published = records.execute("SELECT name FROM image WHERE status = 'published'").fetchall()
    numbers = {(work, step, n) for work, step, text in batches for n in json.loads(text)}
    log = out / ".tilewright" / "run.log"
    return Recorded(
        numbers,
        {name: files(out / "images" / f"{name}.ome.zarr") for (name,) in published},
        dict(ingested_files(out, {(work, n) for work, step, n in numbers if step == "ingest"})),
        log.stat().st_size if log.exists() else 0,
    )


def ingested_files(
    out: Path, shards: set[tuple[str, int]]
) -> Iterator[tuple[str, tuple[int, int]]]:
    """Level 0 of those shards of the large image (2 x 2 of them) that are recorded and staged."""
    for work, number in shards:
        plan = work.split("-")[0]
        level = out / ".tilewright" / "staging" / plan / "image.ome.zarr" / "0"
        name = f"c/{number // 2}/{number % 2}"
        if level.exists():  # else the kill came after its move into place
            yield name, files(level)[name]


def files(folder: Path) -> Files:
    """Inode and time of each file."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def check_nothing_repeated(before: Recorded, out: Path) -> None:
    """The log names every batch that was performed, with its tiles or shards."""
    text = (out / ".tilewright" / "run.log").read_bytes()[before.log_bytes :].decode()
    performed = {
        (work, step, int(n)) for work, step, ns in BATCH.findall(text) for n in ns.split(",")
    }
    assert not performed & before.numbers
    for name, known in before.published.items():
        assert files(out / "images" / f"{name}.ome.zarr") == known
    now = files(out / "images" / "large.ome.zarr" / "0")
    assert {name: now[name] for name in before.ingested} == before.ingested


def check_result(out: Path, clean: Clean) -> None:
    assert labels_digest(out) == clean.labels_digest
    assert table_digest(out / "objects.parquet") == clean.table_digest
    verified = verify_folder(out)
    assert verified.images == 5
    assert not verified.damaged
    assert not list(out.glob("images/**/*.partial*"))
    assert not [path for path in (out / ".tilewright" / "work").glob("*") if path.is_dir()]


def labels_digest(out: Path) -> str:
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["counts"] == {**record["counts"], "images": 5, "published": 5}
    return str(record["certificate"]["labels_digest"])


class Crash(BaseException):
    """Ends the command as a signal does: nothing handles it."""


#: Functions that the command does not come back from, with the number of the fatal call.
PLACES = {
    "first-batch": (ManifestLedger, "add", 1),
    "tenth-batch": (ManifestLedger, "add", 10),
    "end-of-steps": (ManifestLedger, "close_step", 0),
    "move": (Publication, "publish", 1),
    "move-in-place": (Publication, "publish_in_place", 1),
    "record-of-image": (Manifest, "set_image", 1),
    "end-of-work": (ImageRecords, "forget_work", 2),
    "end-of-run": (RunFolder, "write_run", 1),
}


@pytest.mark.parametrize(
    ("place", "image"),
    [
        (place, image)
        for place in PLACES
        for image in ("copy", "none", "in_place")
        if not place.startswith("move") or place.endswith("place") == (image == "in_place")
    ],
)
def test_a_run_continues_from_every_place(
    place: str,
    image: str,
    demo: Path,
    here: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.plan.SMALL_PX", 0)
    source = tmp_path / "archive" / "cells.ome.zarr"
    shutil.copytree(demo / "cell_painting" / "bbbc022.ome.zarr", source)
    recipe = tmp_path / "simple.yaml"
    content = {"source": {"channels": [0]}, "segment": {"method": "threshold"}}
    recipe.write_text(yaml.safe_dump({**content, "output": {"image": image}}))
    expected = tmp_path / "expected"
    here("run", recipe, source, expected, "--tile", 512)
    shutil.rmtree(source / "labels", ignore_errors=True)
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        crash_at(patched, *PLACES[place])
        with pytest.raises(Crash):
            here("run", recipe, source, out, "--tile", 128)
    for folder in out.glob(".tilewright/staging/*/*.zarr"):
        (folder / "labels.0123456789abcdef.partial").touch()  # as zarr leaves it behind
    here("run", recipe, source, out, "--tile", 128)
    digests = [
        json.loads((folder / "run.json").read_text())["certificate"]["labels_digest"]
        for folder in (out, expected)
    ]
    assert digests[0] == digests[1]
    assert table_digest(out / "objects.parquet") == table_digest(expected / "objects.parquet")
    assert table_digest(out / "images.parquet") == table_digest(expected / "images.parquet")
    assert not verify_folder(out).damaged
    assert not list((out / ".tilewright" / "work").glob("*"))
    assert not list(source.glob(".tilewright-*"))
    assert not list(out.glob("images/**/*.partial"))
    with closing(sqlite3.connect(out / "run.sqlite")) as records:
        assert records.execute("SELECT COUNT(*) FROM batch").fetchone() == (0,)


@pytest.mark.parametrize(
    ("owner", "name", "number", "image"),
    [
        (PublishProbabilitiesOrder, "perform", 1, "none"),
        (CoarseOrder, "perform", 2, "none"),
        (ManifestLedger, "close_step", 0, "copy"),
        (Publication, "publish", 1, "none"),
        (Publication, "publish_in_place", 1, "in_place"),
        (Manifest, "set_image", 1, "in_place"),
    ],
)
def test_probabilities_survive_a_crash(
    owner: Any,
    name: str,
    number: int,
    image: str,
    demo: Path,
    here: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.plan.SMALL_PX", 0)
    source = tmp_path / "archive" / "cells.ome.zarr"
    shutil.copytree(demo / "cell_painting" / "bbbc022.ome.zarr", source)
    recipe = tmp_path / "soft.yaml"
    segment = {"method": "gmm", "k": 2, "sample_px": 1000, "output": "probabilities"}
    content = {"source": {"channels": [0]}, "segment": segment, "output": {"image": image}}
    recipe.write_text(yaml.safe_dump(content))
    expected, out = tmp_path / "expected", tmp_path / "out"
    here("run", recipe, source, expected, "--tile", 512)
    digests = shards_of(expected)
    for array in ("labels", "probabilities"):
        shutil.rmtree(source / array, ignore_errors=True)
    with monkeypatch.context() as patched:
        crash_at(patched, owner, name, number)
        with pytest.raises(Crash):
            here("run", recipe, source, out, "--tile", 128)
    here("run", recipe, source, out, "--tile", 128)
    assert shards_of(out) == digests
    assert {array for array, _, _ in digests} >= {"labels", "probabilities"}
    assert not verify_folder(out).damaged
    assert not list(source.glob(".tilewright-*"))


def shards_of(out: Path) -> list[tuple[str, int, str]]:
    with closing(sqlite3.connect(out / "run.sqlite")) as records:
        found = records.execute("SELECT array, number, digest FROM shard ORDER BY 1, 2")
        return [(str(array), int(number), str(digest)) for array, number, digest in found]


def crash_at(patched: pytest.MonkeyPatch, owner: Any, name: str, number: int) -> None:
    """Crash in the place of one call (0: the last one), losing what waits to be committed."""
    function = getattr(owner, name)
    calls = 0

    def call(self: Any, *args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number or (number == 0 and args[0] == MOVING):
            raise Crash
        return function(self, *args, **options)

    def close(self: Manifest) -> None:
        self._db.rollback()
        self._db.close()

    patched.setattr(owner, name, call)
    patched.setattr(Manifest, "close", close)


def test_tiles_may_change_between_runs(
    demo: Path, here: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work with other tiles shares the staging folder: what it staged is not taken for ours."""
    monkeypatch.setattr("pipeline.plan.SMALL_PX", 0)
    image, out = demo / "crowded" / "4d4ebfcae437.png", tmp_path / "out"
    late, early = (ManifestLedger, "add", 6), (Pyramid, "create", 1)
    for tile, (owner, name, number) in ((128, late), (64, early)):
        with monkeypatch.context() as patched:
            crash_at(patched, owner, name, number)
            with pytest.raises(Crash):
                here("run", "nuclei", image, out, "--tile", tile)
    here("run", "nuclei", image, out, "--tile", 128)
    here("run", "nuclei", image, tmp_path / "expected")
    digests = {
        json.loads((folder / "run.json").read_text())["certificate"]["labels_digest"]
        for folder in (out, tmp_path / "expected")
    }
    assert len(digests) == 1
    assert not verify_folder(out).damaged


@pytest.mark.parametrize("kept", ["scratch", "records", "steps"])
def test_an_image_whose_unfinished_work_is_damaged_starts_over(
    kept: str,
    demo: Path,
    here: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As after a power cut: what was recorded is not what is on the disk."""
    monkeypatch.setattr("pipeline.plan.SMALL_PX", 0)
    image, out = demo / "crowded" / "547ef286ee5f.png", tmp_path / "out"
    with monkeypatch.context() as patched:
        crash_at(patched, *PLACES["end-of-steps"])
        with pytest.raises(Crash):
            here("run", "methods/threshold", image, out, "--tile", 128)
    with closing(sqlite3.connect(out / "run.sqlite")) as records:
        records.execute("DELETE FROM batch WHERE step LIKE 'publish%'")
        records.commit()
    files = [p for p in (out / ".tilewright" / "work").rglob(f"{kept}/**/*") if p.is_file()]
    assert files
    for path in files:
        path.write_bytes(b"")
    open_record.cache_clear()  # a rerun is another process
    here("run", "methods/threshold", image, out, "--tile", 128)
    assert "starts over" in caplog.text
    here("run", "methods/threshold", image, tmp_path / "expected")
    digests = {
        json.loads((folder / "run.json").read_text())["certificate"]["labels_digest"]
        for folder in (out, tmp_path / "expected")
    }
    assert len(digests) == 1
    assert not verify_folder(out).damaged
