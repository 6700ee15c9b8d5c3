"""Somebody is told how runs end, and of runs that refused many images."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.service.live import Service, free_ports

pytestmark = [pytest.mark.service, pytest.mark.timeout(600)]


@pytest.fixture
def posted() -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """A port where notices are taken, and what came."""
    found: list[dict[str, Any]] = []

    class Taker(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            content = json.loads(self.rfile.read(length))
            found.append(json.loads(content) if isinstance(content, str) else content)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    (port,) = free_ports(1)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Taker)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield port, found
    server.shutdown()
    thread.join()


def test_ends_and_many_refused_images_are_told_of(
    posted: tuple[int, list[dict[str, Any]]], demo: Path, tmp_path: Path
) -> None:
    port, found = posted
    secrets = {"TILEWRIGHT_NOTIFY__WEBHOOK": f"http://127.0.0.1:{port}/hook-of-the-lab"}
    service = Service(tmp_path, secrets=secrets)
    archive, out = tmp_path / "archive" / "crowded", tmp_path / "out" / "crowded"
    archive.mkdir()
    for path in (demo / "crowded").iterdir():
        (archive / path.name).write_bytes(path.read_bytes())
    (archive / "broken.png").write_bytes(b"no image")
    service.start()
    try:
        said = service("submit", "nuclei", archive, out)
        assert "Completed" in said
        run = said.split("Run ")[1].split()[0]

        def events() -> dict[str, dict[str, Any]]:
            return {notice["event"]: notice for notice in found}

        wanted = {"prefect.flow-run.Completed", "tilewright.run.quarantined"}
        service.wait(lambda: wanted <= set(events()), 60)
        told = events()
        assert told["tilewright.run.quarantined"]["message"].startswith(
            "1 of 5 images were refused"
        )
        for notice in told.values():
            assert run in notice["page"]
            assert notice["run"] == "nuclei: crowded"
        assert told["prefect.flow-run.Completed"]["state"] == "Completed"
        for path in (tmp_path / "home").rglob("*"):
            if path.is_file():
                assert b"hook-of-the-lab" not in path.read_bytes(), path
    finally:
        assert service.stop() == 0
