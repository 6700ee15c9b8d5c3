from __future__ import annotations

import functools
import http.server
import threading
import uuid
from collections.abc import Callable, Iterator

import pytest

from pipeline.storage import StorePath, path_of
from pipeline.storage.stores import open_store
from tests.storage.faulty import FaultyDoor
from tests.storage.s3 import KEYS, make_bucket, s3_server
from tests.storage.web import Web


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    with s3_server() as port:
        yield port


@pytest.fixture
def bucket(s3_port: int, monkeypatch: pytest.MonkeyPatch, tmp_path) -> Iterator[StorePath]:
    """An empty bucket; the environment has its keys, and a home of its own."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    make_bucket(s3_port, name)
    for key, value in KEYS.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3_port}")
    open_store.cache_clear()
    yield StorePath.of(f"s3://{name}")
    open_store.cache_clear()


@pytest.fixture
def behind(
    s3_port: int, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[float, int], FaultyDoor]]:
    """Put a faulty door before the server."""
    doors = []

    def put(rate: float, seed: int = 0) -> FaultyDoor:
        doors.append(FaultyDoor(s3_port, rate, seed))
        monkeypatch.setenv("AWS_ENDPOINT_URL", doors[-1].url)
        open_store.cache_clear()
        return doors[-1]

    yield put
    for door in doors:
        door.close()


@pytest.fixture
def web(tmp_path):
    """A web server of a folder; it lists nothing that is of use."""
    folder = tmp_path / "web"
    folder.mkdir()
    handler = functools.partial(Web, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, path_of(f"http://127.0.0.1:{server.server_address[1]}")
        server.shutdown()
