"""Runs to look at, a viewer's server in a thread, and requests that no browser would send."""

from __future__ import annotations

import html
import http.client
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from flows.request import Request
from flows.viewer.images import RunImages
from flows.viewer.serve import HOST, listening, make_server
from pipeline.recipe import parse_recipe
from pipeline.run_folder import RunFolder
from pipeline.storage import AnyPath
from tests import in_process

KEY = "key"
THRESHOLD = {"method": "threshold", "foreground": {"value": 100}}


def segment(archive: AnyPath, out: AnyPath, **recipe: Any) -> AnyPath:
    """Run a recipe in this process; by default a threshold, with labels called "cells"."""
    wanted = parse_recipe({"label": "cells", "segment": THRESHOLD, **recipe}, "recipe")
    in_process.segment(Request(wanted, archive, out))
    return out


def squares(*shape: int, dtype: str = "uint8") -> np.ndarray:
    """Bright squares of 6 px, 12 px apart, on a dark ramp."""
    y, x = np.indices(shape[-2:])
    plane = np.where((y % 12 < 6) & (x % 12 < 6), 200, 5 + x % 7)
    return np.broadcast_to(plane, shape).astype(dtype)


def fake_client(folder: Path) -> Path:
    """A folder with a page as neuroglancer's is, for tests that draw nothing."""
    folder.mkdir()
    page = (
        "<!doctype html><html><head><title>neuroglancer</title>"
        '<script defer src="main.0123abcd.js"></script>'
        '<link href="main.0123abcd.css" rel="stylesheet"></head><body></body></html>'
    )
    (folder / "index.html").write_text(page)
    (folder / "main.0123abcd.js").write_text("0;")
    (folder / "main.0123abcd.css").write_text("")
    (folder / "decode.wasm").write_bytes(b"\0asm")
    return folder


@dataclass(frozen=True)
class Answer:
    """Status, headers in lower case, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass(frozen=True)
class Client:
    """Sends paths as they are: nothing is put in order first."""

    port: int
    headers: Mapping[str, str] = field(default_factory=dict)

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """Ask for a path below the key; one that begins with / is taken as it is."""
        with closing(http.client.HTTPConnection(HOST, self.port, timeout=60)) as connection:
            connection.putrequest(
                method, path if path.startswith("/") else f"/{KEY}/{path}", skip_host=True
            )
            for name, value in ({"Host": f"{HOST}:{self.port}"} | headers).items():
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())

    def url(self, url: str, **options: str) -> Answer:
        """Ask for a whole URL of this server."""
        parts = urlsplit(url)
        assert parts.netloc == f"{HOST}:{self.port}"
        return self.get(parts.path, **options)

    def start(self, number: int = 0) -> dict[str, Any]:
        """What the page of an image gives the viewer."""
        page = self.get(f"v/{number}/").text
        found = re.search(r'<script type="application/json" id="start">(.*?)</script>', page)
        assert found is not None, page
        start: dict[str, Any] = json.loads(html.unescape(found[1]))
        return start

    def layers(self, number: int = 0) -> dict[str, dict[str, Any]]:
        """The viewer's layers by name."""
        return {layer["name"]: layer for layer in self.start(number)["state"]["layers"]}


@contextmanager
def serving(out: AnyPath, client_files: Path) -> Iterator[Client]:
    """Serve a run's folder."""
    folder = RunFolder(out)
    with closing(folder.reading()) as manifest, listening(0) as door:
        port = int(door.getsockname()[1])
        server = make_server(RunImages(folder, manifest), client_files, KEY, port)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
        thread.start()
        try:
            yield Client(port)
        finally:
            server.should_exit = True
            thread.join()


def urls_of(layer: Mapping[str, Any]) -> list[str]:
    """The folders that a layer is read from, without their formats."""
    sources = layer["source"] if isinstance(layer["source"], list) else [layer["source"]]
    return [url.rpartition("|")[0] for url in sources]
