"""The service as people use it: a form, a progress bar, a report, a stop, a schedule."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tifffile
from chromium import Browser, leaves_the_machine
from skimage import io

from pipeline.status import status_text
from tests.service.live import Service

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

#: Folder where pictures for the docs are written, if they are wanted.
PICTURES = os.environ.get("TILEWRIGHT_SERVICE_PICTURES")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, demo: Path) -> Iterator[Service]:
    """A service with two archives: small images, and one that takes a while."""
    # Paths are seen in pictures.
    folder = Path("/tmp/lab") if PICTURES else tmp_path_factory.mktemp("service")
    found = Service(folder)
    small, large = found.folder / "archive" / "small", found.folder / "archive" / "large"
    for folder in (small, large):
        folder.mkdir()
    for path in sorted((demo / "crowded").iterdir()):
        (small / path.name).write_bytes(path.read_bytes())
    montage = io.imread(next((demo / "montage").iterdir()))
    tiled = montage.repeat(4, axis=0).repeat(4, axis=1)
    tifffile.imwrite(large / "large.ome.tif", tiled, tile=(512, 512), compression="zlib")
    found.start()
    yield found
    assert found.stop() == 0, found.log()


def fill_form(browser: Browser, service: Service, archive: Path, out: Path) -> str:
    """Start a run by the form of the page; returns its id."""
    deployment = service.deployment("segment-dataset/nuclei")["id"]
    browser.open(f"{service.url}/deployments/deployment/{deployment}/run")
    for name, value in (("archive", archive), ("out", out)):
        place = f"//*[normalize-space(text())='{name}']/following::textarea[1]"
        browser.wait(lambda p=place: browser.driver.find_elements("xpath", p), f"field {name}")
        box = browser.driver.find_element("xpath", place)
        box.clear()
        box.send_keys(str(value))
    before = {run["id"] for run in service.runs()}
    picture(browser, "service-form")
    submit = browser.driver.find_element("xpath", "//button[normalize-space()='Submit']")
    submit.click()

    def made() -> Any:
        if any("503" in message for message in browser.messages()):
            submit.click()  # SQLite was busy, and the page says so: docs/service.md
        return next((run["id"] for run in service.runs() if run["id"] not in before), None)

    return str(browser.wait(made, "a new run"))


def picture(browser: Browser, name: str) -> None:
    """Keep what the window shows for the docs."""
    if PICTURES is not None:
        browser.save(Path(PICTURES) / f"{name}.png")


def texts(browser: Browser) -> str:
    """All that the page says."""
    return str(browser.driver.find_element("tag name", "body").text)


def test_the_form_shows_fields_with_their_help(browser: Browser, service: Service) -> None:
    deployment = service.deployment("segment-dataset/nuclei")["id"]
    browser.open(f"{service.url}/deployments/deployment/{deployment}/run")
    browser.wait(
        lambda: "min Distance" in texts(browser) or "Min Distance" in texts(browser), "form"
    )
    shown = texts(browser)
    assert "Peaks of one component are farther apart than this" in shown
    assert "Where results go" in shown
    assert [url for url in browser.requested() if leaves_the_machine(url)] == []


def test_a_run_from_the_form_to_its_report(browser: Browser, service: Service) -> None:
    out = service.folder / "out" / "small"
    run = fill_form(browser, service, service.folder / "archive" / "small", out)
    browser.open(f"{service.url}/runs/flow-run/{run}")
    browser.wait(lambda: service.state(run) == "Completed", "the end of the run")
    assert "published    4 images" in status_text(out)[0]
    browser.wait(lambda: "Completed" in texts(browser), "the page that says so")
    browser.driver.find_element("xpath", "//*[normalize-space()='Artifacts']").click()
    browser.wait(lambda: "4/4 images" in texts(browser), "the counts")
    picture(browser, "service-run")
    body = {"artifacts": {"flow_run_id": {"any_": [run]}}}
    artifacts = service.ask("/artifacts/filter", body)
    (shown,) = [one["id"] for one in artifacts if one["type"] == "image"]
    browser.open(f"{service.url}/artifacts/artifact/{shown}")
    # Asked of the pages, and loaded: an image that is not has no width.
    pictures = f"//img[contains(@src, '{out}/images.svg')]"
    script = "return arguments[0].naturalWidth"

    def drawn() -> bool:
        found = browser.driver.find_elements("xpath", pictures)
        return any(browser.driver.execute_script(script, one) > 100 for one in found)

    browser.wait(drawn, "the pictures")
    picture(browser, "service-pictures")
    links = [one["data"] for one in artifacts if one["key"].endswith("report")]
    assert f"{service.pages}/out{out}/report.html" in links[0]
    browser.open(f"{service.pages}/out{out}/report.html")
    browser.wait(lambda: "nuclei" in texts(browser), "the report")
    browser.open(service.dashboard)
    browser.wait(lambda: "Dask" in browser.driver.title, "the dashboard")


def test_labels_are_compared_with_a_truth(browser: Browser, service: Service, demo: Path) -> None:
    labels, out = service.folder / "out" / "small", service.folder / "out" / "scores"
    truth = service.folder / "archive" / "truth"
    shutil.copytree(demo.parent / "truth" / "crowded", truth)
    given = {"labels": str(labels), "truth": str(truth), "out": str(out)}
    offered = service.deployment("evaluate-labels/labels-and-truth")["id"]
    run = service.ask(f"/deployments/{offered}/create_flow_run", {"parameters": given})["id"]
    service.wait(lambda: service.state(run) == "Completed", 120)
    body = {"artifacts": {"flow_run_id": {"any_": [run]}, "key": {"any_": ["table-of-scores"]}}}
    (scores,) = service.ask("/artifacts/filter", body)
    assert "4 images scored" in scores["data"]
    browser.open(f"{service.pages}/out{out}/scores.html")
    browser.wait(lambda: "AP" in texts(browser), "the scores")
    refused = {**given, "truth": "/etc"}
    run = service.ask(f"/deployments/{offered}/create_flow_run", {"parameters": refused})["id"]
    service.wait(lambda: service.state(run) == "Failed", 120)
    assert "outside of the service's archives and outputs" in service.message(run)


def test_progress_moves_and_a_run_can_be_cancelled(browser: Browser, service: Service) -> None:
    out = service.folder / "out" / "large"
    run = fill_form(browser, service, service.folder / "archive" / "large", out)
    body = {"artifacts": {"flow_run_id": {"any_": [run]}, "type": {"any_": ["progress"]}}}

    def percent() -> float:
        found = service.ask("/artifacts/filter", body)
        return float(found[0]["data"]) if found else 0.0

    seen = [browser.wait(percent, "the first progress")]
    seen.append(browser.wait(lambda: percent() > seen[0] and percent(), "more progress"))
    browser.open(f"{service.url}/runs/flow-run/{run}")
    browser.wait(
        lambda: "Cancel" in texts(browser) or "Running" in texts(browser), "the run's page"
    )
    picture(browser, "service-progress")
    _press_cancel(browser)
    begun = time.monotonic()
    browser.wait(lambda: service.state(run) in ("Cancelling", "Cancelled"), "the wish")
    batches = _batches(out)
    service.wait(lambda: service.state(run) == "Cancelled", 60)
    assert time.monotonic() - begun < 30
    time.sleep(3)
    assert seen[1] > seen[0] > 0
    after = _batches(out)
    time.sleep(5)
    assert _batches(out) == after  # no tile is computed any more
    assert batches <= after
    assert "unfinished   1 images" in status_text(out)[0]
    # It can be continued, and then holds what one run would have made.
    service("submit", "nuclei", service.folder / "archive" / "large", out)
    assert "published    1 images" in status_text(out)[0]


#: Whether a click on the middle of an element would meet it: a dialog lies over the page.
ON_TOP = """
const box = arguments[0].getBoundingClientRect();
const met = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
return box.width > 0 && arguments[0].contains(met);
"""


def _press_cancel(browser: Browser) -> None:
    """The page's button, and the one of the dialog that asks once more."""
    for text in ("Cancel", "Confirm"):

        def shown(text: str = text) -> Any:
            found = browser.driver.find_elements("xpath", f"//button[contains(., '{text}')]")
            return [one for one in found if browser.driver.execute_script(ON_TOP, one)]

        (button, *_) = browser.wait(shown, text)
        time.sleep(0.5)  # dialogs move in
        button.click()


def _batches(out: Path) -> int:
    text = status_text(out)[0]
    return int(text.split(" batches recorded")[0].rsplit(" ", 1)[1]) if " batches" in text else 0


def test_a_schedule_fires(browser: Browser, service: Service) -> None:
    archive, out = service.folder / "archive" / "inbox", service.folder / "out" / "inbox"
    archive.mkdir()
    for path in (service.folder / "archive" / "small").iterdir():
        (archive / path.name).write_bytes(path.read_bytes())
    options = ("--every", "30s", "--settle", "1")
    service("schedule", "add", "inbox", "nuclei", archive, out, *options)
    assert "inbox  on  every 0:00:30" in service("schedule", "list")
    service.wait(lambda: (out / "run.json").is_file(), 240)
    service.wait(lambda: "published    4 images" in status_text(out)[0], 60)
    browser.open(f"{service.url}/runs")
    browser.wait(lambda: "nuclei: inbox" in texts(browser), "the scheduled run")
    picture(browser, "service-runs")
    service("schedule", "remove", "inbox")
    assert "inbox" not in service("schedule", "list")
