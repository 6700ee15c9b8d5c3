"""kill -9 and broken-off commands where archive and output lie in a bucket, behind a bad door.

The moments, the kinds of kills and what is asked of the end are those of `tests/test_crash.py`.
"""

from __future__ import annotations

import json
import random
import shutil
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.run_folder import RECORDS, RUN_JSON, RunFolder
from pipeline.storage import StorePath
from pipeline.storage.stores import open_store
from pipeline.table_file import table_digest
from pipeline.verify import verify_folder
from tests.storage.s3 import upload
from tests.test_crash import (
    BATCH,
    KINDS,
    LIMIT_SECONDS,
    MARK,
    PLACES,
    SEED,
    TRIALS,
    Crash,
    batches_done,
    crash_at,
    kill,
    left,
    wait_for,
)

pytestmark = pytest.mark.crash

#: Every place, and every way out; all pairs in the long form.
CRASHES = [
    ("first-batch", "copy"),
    ("tenth-batch", "none"),
    ("end-of-steps", "copy"),
    ("move", "copy"),
    ("move", "none"),
    ("move-in-place", "in_place"),
    ("record-of-image", "copy"),
    ("record-of-image", "in_place"),
    ("end-of-work", "none"),
    ("end-of-run", "copy"),
]
if TRIALS > 3:
    CRASHES = [
        (place, image)
        for place in PLACES
        for image in ("copy", "none", "in_place")
        if not place.startswith("move") or place.endswith("place") == (image == "in_place")
    ]
#: Share of requests that go wrong while processes are killed.
RATE = 0.03


def found_in(out: StorePath | Path) -> tuple[str, str]:
    """Digests of all labels and of the table of objects."""
    record = json.loads((out / RUN_JSON).read_text())
    assert record["status"] == "finished"
    assert record["counts"]["images"] == record["counts"]["published"]
    labels = str(record["certificate"]["labels_digest"])
    return labels, table_digest(out / "objects.parquet")


@pytest.fixture(scope="module")
def clean(undisturbed: tuple[Path, Path]) -> Any:
    """A run on disk that nobody disturbed: its archive, and what it found."""
    archive, out = undisturbed
    return archive, found_in(out), batches_done(out)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("trial", range(max(1, TRIALS // 3)))
def test_a_killed_run_continues(
    trial: int,
    clean: Any,
    tilewright: Any,
    bucket: StorePath,
    behind: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    archive, want, batches = clean
    upload(archive, bucket / "archive")
    monkeypatch.setenv("HOME", str(tilewright.home))
    behind(RATE, trial)
    rng = random.Random(SEED + trial)
    kind, out, mark = KINDS[trial % len(KINDS)], bucket / "out", uuid.uuid4().hex
    moment = int(batches * (trial * 7 % TRIALS + rng.random()) / TRIALS)
    print(f"trial {trial}: kill -9 of {kind} after batch {moment} of {batches}")
    more = ("--work", bucket / "work") if trial % 2 else ()
    log = RunFolder(out).local / "run.log"

    def go() -> Any:
        arguments = ("run", "nuclei", bucket / "archive", out, "--tile", 256, "--workers", 2)
        return tilewright.start(*arguments, *more, **{MARK: mark})

    process = go()
    wait_for(
        lambda: log.exists() and len(BATCH.findall(log.read_text())) >= moment,
        process,
        2 * LIMIT_SECONDS,
    )
    kill(kind, process, tilewright.server_home, rng)
    output, _ = process.communicate(timeout=2 * LIMIT_SECONDS)
    if kind != "worker":
        assert not left(mark, tilewright.server_home)
        again = go()
        output, _ = again.communicate(timeout=2 * LIMIT_SECONDS)
        process = again
    assert process.returncode == 0, output
    assert "Traceback" not in output
    check_result(out, want)


@pytest.mark.parametrize(("place", "image"), CRASHES)
def test_a_run_continues_from_every_place(
    place: str,
    image: str,
    demo: Path,
    here: Callable[..., Any],
    bucket: StorePath,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.plan.SMALL_PX", 0)
    source = bucket / "archive" / "cells.ome.zarr"
    local = tmp_path / "archive" / "cells.ome.zarr"
    shutil.copytree(demo / "cell_painting" / "bbbc022.ome.zarr", local)
    upload(local, source)
    recipe = tmp_path / "simple.yaml"
    content = {"source": {"channels": [0]}, "segment": {"method": "threshold"}}
    recipe.write_text(yaml.safe_dump({**content, "output": {"image": "none"}}))
    here("run", recipe, local, tmp_path / "expected")
    recipe.write_text(yaml.safe_dump({**content, "output": {"image": image}}))
    out = bucket / "out"
    with monkeypatch.context() as patched:
        crash_at(patched, *PLACES[place])
        with pytest.raises(Crash):
            here("run", recipe, source, out, "--tile", 128)
    here("run", recipe, source, out, "--tile", 128)
    check_result(out, found_in(tmp_path / "expected"))
    assert not [item for item in source.walk() if item.name.startswith(".tilewright-")]


def check_result(out: StorePath, want: tuple[str, str]) -> None:
    open_store.cache_clear()
    assert found_in(out) == want
    assert not verify_folder(out).damaged
    assert (out / RECORDS).is_file()
    hidden = [item.name for item in (out / ".tilewright").walk()]
    assert not [name for name in hidden if name.startswith(("staging", "work", "lock"))]
    with suppress(FileNotFoundError):
        assert not list((RunFolder(out).local / "work").iterdir())
