"""A thousand images by the form: what Prefect costs, and whether anything grows with images."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
import pytest
from chromium import Browser
from test_service_in_browser import fill_form, texts

from pipeline.run_folder import RunFolder
from tests.service.live import Service

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1800)]

IMAGES = 1000
#: Where figures are written, if they are wanted.
FIGURES = os.environ.get("TILEWRIGHT_SERVICE_PICTURES")
#: Units by a word of their command lines; the run itself is a child of the runner.
UNITS = {
    "server": "prefect server start",
    "run": "prefect.engine",
    "runner": "prefect worker start",
    "scheduler": "dask_scheduler",
    "workers": "dask_worker",
    "pages": "flows.service.pages",
}


@dataclass
class Sample:
    """The service at one moment: CPU seconds since a process began, and memory, by unit."""

    seconds: float
    images: int
    cpu_s: dict[str, float]
    memory_mb: dict[str, float]
    database_kb: float
    api_s: float


@dataclass
class Watch:
    """Samples of a service, taken every few seconds in a thread."""

    service: Service
    out: Path
    samples: list[Sample] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Watch:
        self.begun = time.monotonic()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()

    def run(self) -> None:
        while not self.ended.wait(2.0):
            self.samples.append(self.look())

    def look(self) -> Sample:
        cpu, memory = dict.fromkeys(UNITS, 0.0), dict.fromkeys(UNITS, 0.0)
        assert self.service.process is not None
        for process in psutil.Process(self.service.process.pid).children(recursive=True):
            with suppress(psutil.Error):
                line = " ".join(process.cmdline())
                unit = next((name for name, word in UNITS.items() if word in line), "workers")
                times = process.cpu_times()
                cpu[unit] += times.user + times.system
                memory[unit] += process.memory_info().rss / 1e6
        files = (self.service.folder / "home" / "prefect").glob("prefect.db*")
        begun = time.monotonic()
        self.service.ask("/flow_runs/filter", {"limit": 50})
        return Sample(
            time.monotonic() - self.begun,
            published(self.out),
            cpu,
            memory,
            sum(path.stat().st_size for path in files) / 1e3,
            time.monotonic() - begun,
        )


def published(out: Path) -> int:
    folder = RunFolder(out)
    if not folder.records.is_file():
        return 0
    manifest = folder.reading()
    try:
        return manifest.counts().get("published", 0)
    finally:
        manifest.close()


@pytest.fixture
def service(tmp_path: Path, demo: Path) -> Iterator[Service]:
    found = Service(tmp_path)
    fields = [
        p
        for name in ("small_nuclei", "large_nuclei", "crowded", "noisy")
        for p in sorted((demo / name).glob("*.png"))
    ]
    archive = found.folder / "archive" / "many"
    for number in range(IMAGES):
        place = archive / f"plate{number // 100}"
        place.mkdir(parents=True, exist_ok=True)
        field = fields[number % len(fields)]
        (place / f"{number:04d}.png").write_bytes(field.read_bytes())
    found.start()
    yield found
    assert found.stop() == 0, found.log()


def test_a_thousand_images(browser: Browser, service: Service) -> None:
    out = service.folder / "out" / "many"
    with Watch(service, out) as watch:
        time.sleep(30)  # of an idle service
        idle = watch.samples[-1].cpu_s, watch.samples[2].cpu_s
        idle_s = watch.samples[-1].seconds - watch.samples[2].seconds
        before = watch.samples[-1]
        run = fill_form(browser, service, service.folder / "archive" / "many", out)
        service.wait(lambda: published(out) > IMAGES // 3, 600)
        begun = time.monotonic()
        browser.open(f"{service.url}/runs/flow-run/{run}")
        browser.wait(lambda: "Running" in texts(browser), "the page of the run")
        page_s = time.monotonic() - begun
        service.wait(lambda: service.state(run) == "Completed", 1200)
        time.sleep(5)
    last = watch.samples[-1]
    assert last.images == IMAGES
    third = next(one for one in watch.samples if one.images > IMAGES // 3)
    # The end of a run, its tables and its report, is a peak that does not grow with images.
    most = [one for one in watch.samples if third.images <= one.images < 0.95 * IMAGES][-1]
    figures = {
        "images": IMAGES,
        "seconds": last.seconds - before.seconds,
        "page_s": page_s,
        "slowest_api_s": max(one.api_s for one in watch.samples),
        "idle_cpu_s_per_s": {k: (idle[0][k] - idle[1][k]) / idle_s for k in UNITS},
        "cpu_s_per_image": {
            k: (max(one.cpu_s[k] for one in watch.samples) - before.cpu_s[k]) / IMAGES
            for k in UNITS
        },
        "memory_mb_at_a_third": third.memory_mb,
        "memory_mb_later": most.memory_mb,
        "memory_mb_most": {k: max(one.memory_mb[k] for one in watch.samples) for k in UNITS},
        "database_kb_before": before.database_kb,
        "database_kb_at_a_third": third.database_kb,
        "database_kb_after": last.database_kb,
    }
    print(json.dumps(figures, indent=2))
    if FIGURES is not None:
        content = {**figures, "samples": [asdict(one) for one in watch.samples]}
        Path(FIGURES, "thousand-images.json").write_text(json.dumps(content, indent=1))
    images = most.images - third.images
    assert images > IMAGES / 3
    for unit in ("server", "run", "runner", "scheduler", "pages"):
        grown = 1e3 * (most.memory_mb[unit] - third.memory_mb[unit]) / images
        assert grown < 40, f"{unit}: {grown:.0f} kB of memory an image"
    grown = (last.database_kb - third.database_kb) / (IMAGES - third.images)
    assert grown < 2, f"{grown:.1f} kB of the database an image"
