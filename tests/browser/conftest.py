"""A headless Chromium that draws WebGL in software and reaches nothing but this machine."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

WINDOW = (1400, 900)
#: Software draws slowly where other tests run too.
PATIENCE_SECONDS = 120.0
COLOURS = 128
OPTIONS = (
    "--headless=new",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    # Chromium's own requests: components, lists of bad sites, the time.
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
LOOPBACK = ("127.0.0.1", "localhost")
REQUEST = "Network.requestWillBeSent"


@dataclass(frozen=True)
class Browser:
    """A browser window, and what it asked for."""

    driver: Chrome

    def open(self, url: str) -> None:
        """Load a page, which begins new lists of requests and messages."""
        self.driver.get("about:blank")
        self._performance()
        self.driver.get_log("browser")
        self.driver.get(url)

    def picture(self) -> NDArray[np.uint8]:
        """What the window shows, shape (Y, X, 3)."""
        shot = Image.open(io.BytesIO(self.driver.get_screenshot_as_png()))
        return np.asarray(shot.convert("RGB"))

    def save(self, path: Path) -> None:
        """Write what the window shows as a PNG of few colours, which docs can hold."""
        shot = Image.fromarray(self.picture())
        shot.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """Try until a condition holds; returns what it gave."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            if found := condition():
                return found
            time.sleep(0.2)
        raise AssertionError(f"{what}: not within {PATIENCE_SECONDS:.0f} s; {self.messages()}")

    def messages(self) -> list[str]:
        """What the page complained of since it was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requested(self) -> list[str]:
        """URLs that were asked for since the last call, or since the page was opened."""
        sent = (event for event in self._performance() if event["method"] == REQUEST)
        return [str(event["params"]["request"]["url"]) for event in sent]

    def _performance(self) -> list[dict[str, Any]]:
        entries = self.driver.get_log("performance")
        return [json.loads(entry["message"])["message"] for entry in entries]


def leaves_the_machine(url: str) -> bool:
    """Whether a request for it would go beyond this machine."""
    parts = urlsplit(url)
    return parts.scheme not in ("data", "blob", "about") and parts.hostname not in LOOPBACK


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One window for all tests of the session."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (make install)")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip("needs Chromium and its driver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # With the driver's path given, Selenium looks for nothing on the network.
    driver = webdriver.Chrome(options, webdriver.ChromeService(chromedriver))
    width, height = WINDOW  # of the page itself, without the browser's own bars
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        yield Browser(driver)
    finally:
        driver.quit()
