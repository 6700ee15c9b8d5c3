"""The viewer in a browser: labels are seen over their image, with nothing from the network."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import zarr
from chromium import Browser, leaves_the_machine

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        importlib.util.find_spec("neuroglancer") is None, reason="needs tilewright[view]"
    ),
]

#: Where a picture for the docs is written, if it is wanted.
PICTURE = os.environ.get("TILEWRIGHT_VIEW_PICTURE")


@pytest.fixture(scope="module")
def out(tilewright: Any, demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over one image of several channels, which stays where it was."""
    folder = tmp_path_factory.mktemp("view") / "out"
    tilewright("run", "nuclei", demo / "cell_painting", folder, "--workers", "1")
    return folder


@pytest.fixture(scope="module")
def address(tilewright: Any, out: Path) -> Iterator[str]:
    process: subprocess.Popen[str] = tilewright.start("view", out, "--no-browser")
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert (process.returncode, rest.endswith("Stopped.\n")) == (0, True), rest


def coloured(browser: Browser) -> np.ndarray:
    """Where the picture of the image has a colour that is neither grey nor of one channel."""
    pixels = browser.picture()[60:, :1090].astype(int)
    return np.ptp(pixels, axis=-1) > 30


def test_labels_are_drawn_over_the_image(browser: Browser, address: str, out: Path) -> None:
    browser.open(address)
    cards = browser.driver.find_elements("css selector", "a.card")
    assert [card.text.splitlines()[0] for card in cards] == ["bbbc022", "bbbc022_crop"]
    loaded = "return [...document.images].every(i => i.complete && i.naturalWidth > 0)"
    browser.wait(lambda: browser.driver.execute_script(loaded), "pictures in the list")

    cards[0].click()
    browser.wait(lambda: coloured(browser).mean() > 0.02, "the image and its labels")
    both = browser.picture()
    toggle(browser, "nuclei")
    browser.wait(lambda: changed(browser, both) > 0.01, "the image without labels")
    image = browser.picture()

    # What changed are the objects: as large a part of the image as they are in the labels.
    (found,) = (out / "images").rglob("bbbc022.ome.zarr")
    labels = np.asarray(zarr.open_array(found / "labels" / "nuclei" / "0", mode="r")[:])
    height, width = labels.shape
    area = drawn_area(browser, width, height)
    part = (np.abs(both.astype(int) - image).max(-1) > 8).sum() / area
    assert part == pytest.approx((labels > 0).mean(), rel=0.1)

    toggle(browser, "nuclei")
    browser.wait(lambda: changed(browser, both) < 0.001, "the labels again")
    assert not [url for url in browser.requested() if leaves_the_machine(url)]
    problems = [line for line in browser.messages() if "event source connected" not in line]
    assert problems == []
    if PICTURE:
        point_at(browser, 480, 283)  # an object: its number and the channels' values are shown
        time.sleep(2)
        browser.save(Path(PICTURE))


def test_a_page_that_is_opened_again_is_as_it_was_left(browser: Browser, address: str) -> None:
    browser.open(f"{address}v/0/")
    browser.wait(lambda: coloured(browser).mean() > 0.02, "the image and its labels")
    toggle(browser, "nuclei")
    browser.wait(lambda: not layer(browser, "nuclei").get("visible", True), "the new address")
    browser.driver.refresh()
    browser.wait(lambda: coloured(browser).mean() > 0.01, "the image")
    assert not layer(browser, "nuclei").get("visible", True)


def state(browser: Browser) -> dict[str, Any]:
    """What the viewer keeps in its address."""
    found: dict[str, Any] = json.loads(unquote(browser.driver.current_url.partition("#!")[2]))
    return found


def layer(browser: Browser, name: str) -> dict[str, Any]:
    (found,) = (one for one in state(browser)["layers"] if one["name"] == name)
    return dict(found)


def toggle(browser: Browser, name: str) -> None:
    """Click a layer's name in the bar."""
    items = browser.driver.find_elements("class name", "neuroglancer-layer-item-label")
    (item,) = (item for item in items if item.text == name)
    item.click()


def point_at(browser: Browser, x: int, y: int) -> None:
    """Move the mouse."""
    event = {"type": "mouseMoved", "x": x, "y": y}
    browser.driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)


def changed(browser: Browser, before: np.ndarray) -> float:
    """Part of the window that is not as it was."""
    return float((np.abs(browser.picture().astype(int) - before).max(-1) > 8).mean())


def drawn_area(browser: Browser, width: int, height: int) -> float:
    """Pixels of the window that the image takes."""
    return width * height / float(state(browser)["crossSectionScale"]) ** 2
