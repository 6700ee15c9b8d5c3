"""A browser window: its pictures, its messages, and what it asked for."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

#: Software draws slowly where other tests run too.
PATIENCE_SECONDS = 120.0
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
        """Write what the window shows as a PNG that is small enough for the docs."""
        shot = Image.fromarray(self.picture())
        # The other methods give objects of several colours the same.
        few = shot.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
        few.save(path, optimize=True)

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
