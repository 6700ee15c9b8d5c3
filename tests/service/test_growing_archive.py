"""An archive that grows while the service is killed: every good image is published exactly once."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image
from skimage import io

from pipeline.manifest import ImageRow
from pipeline.run_folder import RunFolder
from tests.service.live import Service

pytestmark = [pytest.mark.service, pytest.mark.timeout(1800)]

IMAGES, KILLS = 200, 3
SIDE = 96
SETTLE = 4.0
#: In which the images arrive: longer than the kills and starts take.
SECONDS = 300.0


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    found = Service(tmp_path)
    found.start()
    yield found
    assert found.stop() == 0, found.log()


def contents(demo: Path) -> dict[str, bytes]:
    """Parts of real fields, each another one, as PNG files."""
    rng = np.random.default_rng(7)
    montage = io.imread(next((demo / "montage").iterdir()))
    found = {}
    for number in range(IMAGES):
        y, x = (int(rng.integers(0, n - SIDE)) for n in montage.shape)
        buffer = BytesIO()
        Image.fromarray(montage[y : y + SIDE, x : x + SIDE]).save(buffer, "PNG")
        found[f"field{number:03}.png"] = buffer.getvalue()
    return found


def arrive(archive: Path, files: dict[str, bytes], kinds: dict[str, str], seconds: float) -> None:
    """Write the files one by one; some in halves, and some again a while later."""
    again: list[tuple[float, str]] = []
    late: list[tuple[float, str]] = []
    pause = seconds / len(files)
    begun = time.monotonic()
    for name, content in files.items():
        now = time.monotonic() - begun
        if kinds[name] == "halves":
            (archive / name).write_bytes(content[: len(content) // 2])
            late.append((now + SETTLE / 2, name))
        else:
            (archive / name).write_bytes(content)
        if kinds[name] == "twice":
            again.append((now + 25, name))
        time.sleep(pause)
        for waiting in (late, again):
            for item in [one for one in waiting if one[0] <= time.monotonic() - begun]:
                (archive / item[1]).write_bytes(files[item[1]])
                waiting.remove(item)
    for _, name in late + again:
        (archive / name).write_bytes(files[name])


def rows(out: Path) -> dict[str, ImageRow]:
    if not RunFolder(out).records.is_file():
        return {}  # no look has found anything yet
    manifest = RunFolder(out).reading()
    try:
        return {row.name: row for row in manifest.images()}
    finally:
        manifest.close()


def check_what_was_set_aside(out: Path, restarts: list[float]) -> None:
    """Only what a kill met between publishing and its record was published again, the same."""
    for folder in (RunFolder(out).hidden / "previous").glob("*"):
        stamp = time.mktime(time.strptime(folder.name.split("-")[0], "%Y%m%dT%H%M%S"))
        assert any(0 <= stamp - restart < 90 for restart in restarts), folder
        for before in folder.glob("*.ome.zarr"):
            place = "labels/nuclei/0"
            now = zarr.open_array(out / "images" / before.name / place, mode="r")
            then = zarr.open_array(before / place, mode="r")
            assert np.array_equal(np.asarray(now[:]), np.asarray(then[:]))


def test_every_good_image_is_published_exactly_once(service: Service, demo: Path) -> None:
    rng = random.Random(11)
    archive, out = service.folder / "archive" / "inbox", service.folder / "out" / "inbox"
    archive.mkdir()
    files = contents(demo)
    names = list(files)
    kinds = dict.fromkeys(names, "plain")
    for kind, count in (("halves", 40), ("twice", 30), ("corrupt", 20)):
        for name in rng.sample([n for n in names if kinds[n] == "plain"], count):
            kinds[name] = kind
    for name in names:
        if kinds[name] == "corrupt":
            files[name] = files[name][:40] + rng.randbytes(200)
    bad = {Path(name).stem for name in names if kinds[name] == "corrupt"}
    good = {Path(name).stem for name in names} - bad

    options = ("--every", "20s", "--settle", str(SETTLE))
    service("schedule", "add", "inbox", "nuclei", archive, out, *options)
    writer = threading.Thread(target=arrive, args=(archive, files, kinds, SECONDS))
    writer.start()
    restarts: list[float] = []
    for _ in range(KILLS):
        known = len(rows(out))
        service.wait(lambda known=known: len(rows(out)) > known, 300)
        time.sleep(rng.uniform(0, 30))  # a look of every 20 s is met, or what follows it
        service.kill()
        service.start()
        restarts.append(time.time())
    writer.join()

    def is_done() -> bool:
        found = rows(out)
        return {n for n, row in found.items() if row.status == "published"} == good and bad <= set(
            found
        )

    service.wait(is_done, 600)
    time.sleep(45)  # looks that must find nothing to do
    found = rows(out)
    assert {name for name, row in found.items() if row.status == "published"} == good
    assert {name for name, row in found.items() if row.status == "quarantined"} == bad
    assert all(found[name].reason for name in bad)
    check_what_was_set_aside(out, restarts)
    assert not list((RunFolder(out).hidden / "work").glob("*"))
    once = service.folder / "out" / "once"
    service("run", "nuclei", archive, once, expect=3)
    expected = rows(once)
    assert {n: row.digest for n, row in found.items()} == {n: r.digest for n, r in expected.items()}
    assert "published    180 images" in service("status", out, expect=3)
    assert "Everything is as it was published" in service("verify", out)
