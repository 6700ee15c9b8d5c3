"""`tilewright view`: the server of one command, from its first line to Ctrl-C."""

from __future__ import annotations

import errno
import os
import secrets
import signal
import socket
import sys
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import uvicorn

from flows.viewer.app import make_app
from flows.viewer.client import find_client
from flows.viewer.images import RunImages
from pipeline.errors import ViewError
from pipeline.run_folder import RunFolder
from pipeline.storage import AnyPath

HOST = "127.0.0.1"
#: How long an answer may go on after Ctrl-C.
GRACE_SECONDS = 2


def view_run(out: AnyPath, port: int, browser: bool, say: Callable[[str], None]) -> None:
    """Serve the images of a run until Ctrl-C.

    Parameters
    ----------
    out : Path or StorePath
        The output folder of a run.
    port : int
        0 for any that is free.
    browser : bool
        Whether to open one.
    say : callable
        Prints a line.

    Raises
    ------
    OutputError
        The folder holds no run.
    ViewError
        Nothing is published, the viewer is not installed, or the port is taken.
    """
    folder = RunFolder(out)
    with closing(folder.reading()) as manifest, listening(port) as door:
        images, client = RunImages(folder, manifest), find_client()
        key = secrets.token_urlsafe(12)
        bound = int(door.getsockname()[1])
        server = make_server(images, client, key, bound)
        with _ended_by_ctrl_c(server):
            url = f"http://{HOST}:{bound}/{key}/"
            say(f"{url}\nOpen this address in a browser. Ctrl-C stops it.")
            if browser and has_screen():
                webbrowser.open(url)
            server.run(sockets=[door])
    say("Stopped.")


@contextmanager
def _ended_by_ctrl_c(server: uvicorn.Server) -> Iterator[None]:
    """From here on Ctrl-C ends the server, which has a handler of its own only while it runs.

    An exception instead could come where Python ignores them, and the server would go on.
    """

    def end(*_: object) -> None:
        server.should_exit = True

    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def make_server(images: RunImages, client: Path, key: str, port: int) -> uvicorn.Server:
    """A server that says nothing and is not known beyond what `make_app` answers."""
    return uvicorn.Server(
        uvicorn.Config(
            make_app(images, client, key, port),
            access_log=False,
            lifespan="off",
            log_config=None,
            log_level="critical",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            ws="none",
        )
    )


@contextmanager
def listening(port: int) -> Iterator[socket.socket]:
    """A port of this machine alone; the browser may connect from now on.

    Raises
    ------
    ViewError
        It is taken, or only an administrator may have it.
    """
    # asyncio sends small answers at once only if the socket says TCP; else each takes 40 ms.
    with socket.socket(proto=socket.IPPROTO_TCP) as door:
        # A port that was just left shall be had at once; one where somebody listens is refused.
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind((HOST, port))
            door.listen()
        except OSError as error:
            why = (
                "is taken" if error.errno == errno.EADDRINUSE else f"is refused ({error.strerror})"
            )
            raise ViewError(
                f"Port {port} {why}. Give another --port, or none for any that is free."
            ) from error
        yield door


def has_screen() -> bool:
    """Whether a browser would have a window; without, one of the terminal would take its place."""
    return sys.platform == "darwin" or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
