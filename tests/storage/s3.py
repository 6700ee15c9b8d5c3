"""An S3 server on this machine (moto), in a process of its own, and buckets on it."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.storage import StorePath

KEYS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "us-east-1",
}
START_S = 60.0


@contextmanager
def s3_server() -> Iterator[int]:
    """Run the server; gives its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(process, port)
        yield port
    finally:
        process.kill()
        process.wait()


def make_bucket(port: int, name: str) -> None:
    """Make a bucket; moto looks at no signature."""
    there = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    scope = "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request"
    there.request("PUT", f"/{name}", headers={"Authorization": scope})
    assert there.getresponse().status == 200
    there.close()


def upload(folder: Path, target: StorePath) -> None:
    """Put all files of a folder into a bucket."""
    for path in folder.rglob("*"):
        if path.is_file():
            (target / path.relative_to(folder).as_posix()).write_bytes(path.read_bytes())


def _wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + START_S
    while True:
        assert process.poll() is None, "the S3 server has ended"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < end, "the S3 server does not start"
            time.sleep(0.1)
        else:
            return
