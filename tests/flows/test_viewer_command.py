"""`tilewright view`: its address, its end, and why it may not start."""

from __future__ import annotations

import importlib.util
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urljoin

import pytest
import tifffile
from typer.testing import CliRunner
from viewer_server import fake_client, segment, serving, squares

from flows.cli import app
from flows.viewer import client, serve
from pipeline.errors import ViewError

HAS_CLIENT = importlib.util.find_spec("neuroglancer") is not None
needs_client = pytest.mark.skipif(not HAS_CLIENT, reason="needs tilewright[view]")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    archive = tmp_path_factory.mktemp("archive")
    tifffile.imwrite(archive / "a.tif", squares(40, 50))
    return segment(archive, tmp_path_factory.mktemp("run") / "out")


def refusal(*arguments: object) -> str:
    """What it says when it does not start."""
    answer = CliRunner().invoke(app, ["view", *map(str, arguments), "--no-browser"])
    assert answer.exit_code == 2, (answer.output, answer.exception)
    assert answer.output.count("\n") == 1
    return answer.output


def start(*arguments: object) -> tuple[subprocess.Popen[str], str]:
    """The command in a process of its own, and the address that it says."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from flows.cli import main; main()", "view", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{16}/\n", line), line
    return process, line.strip()


@needs_client
def test_it_says_its_address_listens_there_alone_and_ends_with_ctrl_c(out: Path) -> None:
    process, url = start(out, "--no-browser")
    with urllib.request.urlopen(url, timeout=60) as answer:
        assert b"<b>a</b>" in answer.read()
    with urllib.request.urlopen(f"{url}v/0/", timeout=60) as answer:
        page = answer.read().decode()
    files = re.findall(r'(?:src|href)="(/[^"]+)"', page)
    assert len(files) > 3
    for file in files:
        urllib.request.urlopen(urljoin(url, file), timeout=60).close()
    port = int(url.split(":")[2].split("/")[0])
    # Another address of this machine: a server for everybody would answer here.
    with pytest.raises(OSError):  # noqa: PT011
        socket.create_connection(("127.0.0.2", port), timeout=5)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert output.endswith("Stopped.\n")
    assert "Traceback" not in output


@needs_client
def test_ctrl_c_does_not_wait_for_an_idle_browser(out: Path) -> None:
    process, url = start(out, "--no-browser")
    host, port = url.split("/")[2].split(":")
    with socket.create_connection((host, int(port))):
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output


@needs_client
@pytest.mark.parametrize("screen", [True, False])
def test_a_browser_is_opened_only_where_there_is_a_screen(
    out: Path, monkeypatch: pytest.MonkeyPatch, screen: bool
) -> None:
    opened: list[str] = []
    said: list[str] = []
    monkeypatch.setattr(serve, "has_screen", lambda: screen)
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: None)
    serve.view_run(out, 0, True, said.append)
    assert opened == ([said[0].splitlines()[0]] if screen else [])


def test_no_port_is_open_before_all_is_well(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert refusal(out) == (
        "The viewer needs the package neuroglancer, which is not installed: "
        "`pip install 'tilewright[view]'`.\n"
    )


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    assert "no run was ever started here (run.sqlite is missing)" in refusal(tmp_path)


def test_a_run_that_published_nothing_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    (archive / "a.png").write_bytes(b"nothing")
    out = segment(archive, tmp_path / "out")
    assert refusal(out) == (
        f"{out}: no image is published yet, so there is nothing to see. "
        f"`tilewright status {out}` says how far the run is and what failed.\n"
    )


def test_a_port_that_is_taken_is_named(out: Path, tmp_path: Path) -> None:
    with serving(out, fake_client(tmp_path / "client")) as other:
        assert refusal(out, "--port", other.port) == (
            f"Port {other.port} is taken. Give another --port, or none for any that is free.\n"
        )


def test_asyncio_will_send_small_answers_at_once() -> None:
    """It looks for this; a socket without took 40 ms a range, now it is 4."""
    with serve.listening(0) as door:
        assert door.proto == socket.IPPROTO_TCP


def test_a_package_without_its_files_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "neuroglancer").mkdir()
    (tmp_path / "neuroglancer" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ViewError, match="has no files for the browser in it"):
        client.find_client()


@needs_client
def test_nothing_of_the_package_is_imported() -> None:
    code = (
        "import sys; from flows.viewer.client import find_client; find_client();"
        "print([m for m in ('neuroglancer', 'dask', 'prefect') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout == "[]\n", answer.stderr
