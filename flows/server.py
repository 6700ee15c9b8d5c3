"""A Prefect server for one command, shared with the commands that run beside it.

Seconds until the API answers, on 2 cores: first start ever in a home 17, of which 10 are Alembic
migrations that cannot be had cheaper (the models' `create_all` fails in Prefect 3.8); later starts
6-7, of which 5.5 are imports; a server that runs already 0.01. Hence `start_server` returns at once
with the URL set, and `ServerHandle.wait` comes after the imports and the planning. What starts and
ends the server is in `flows.server_process`.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from flows.configured_server import configured_url
from flows.probe import answers, tail
from flows.server_process import has_ended, locked, running, spawn
from pipeline.errors import TilewrightError

START_SECONDS = 120.0
"""Limit for a start; 17 s is usual for the first one on 2 cores, and machines get busy."""

ANSWER_SECONDS = 10.0
"""Limit for a server that should run already."""


class ServerHandle:
    """A server that starts, or runs, and that this process uses until `stop`.

    Attributes
    ----------
    url : str
        The API; known before it answers.
    """

    def __init__(self, url: str, home: Path | None, users: IO[str] | None, pid: int | None) -> None:
        self.url = url
        self._home = home
        self._users = users
        self._pid = pid
        self._url_before = os.environ.get("PREFECT_API_URL")
        os.environ["PREFECT_API_URL"] = url

    def wait(self, timeout: float | None = None) -> str:
        """Return the URL as soon as the API answers.

        Raises
        ------
        TilewrightError
            It does not within `timeout` seconds, or the server's process ended.
        """
        limit = timeout or (ANSWER_SECONDS if self._pid is None else START_SECONDS)
        deadline = time.monotonic() + limit
        pause = 0.02
        while not _answers(self.url):
            if self._pid is not None and has_ended(self._pid):
                raise TilewrightError(self._complaint("ended while it started"))
            if time.monotonic() > deadline:
                raise TilewrightError(self._complaint(f"does not answer within {limit:.0f} s"))
            time.sleep(pause)
            pause = min(1.3 * pause, 0.25)
        return self.url

    def stop(self) -> None:
        """Use the server no longer; without other users it stops within a second or two."""
        if os.environ.get("PREFECT_API_URL") == self.url:
            if self._url_before is None:
                del os.environ["PREFECT_API_URL"]
            else:
                os.environ["PREFECT_API_URL"] = self._url_before
        if self._users is not None:
            self._users.close()
            self._users = None

    def _complaint(self, what: str) -> str:
        """Say what is wrong, whose server it is, and what to do."""
        if self._home is None:
            return (
                f"{self.url}: the Prefect server {what}. Start it, or unset PREFECT_API_URL "
                "(also in the active Prefect profile) to run one for this command."
            )
        path = self._home / "server.log"
        return f"The Prefect server in {self._home} {what}. Its log {path} ends:\n{tail(path)}"


@contextmanager
def prefect_server(home: Path) -> Iterator[str]:
    """Yield the URL of a Prefect API that answers; see `start_server`."""
    handle = start_server(home)
    try:
        yield handle.wait()
    finally:
        handle.stop()


def start_server(home: Path) -> ServerHandle:
    """Find a Prefect server or begin to start one, and return without waiting for it.

    Sets PREFECT_API_URL in the environment of this process until the handle's `stop`. Prefect
    reads it when it is imported: import Prefect after this call. Importing does not need the
    server yet, so do it before `ServerHandle.wait`.

    Parameters
    ----------
    home : Path
        Folder of the database and the log, one a user, on a local disk. Not used when
        PREFECT_API_URL, the active Prefect profile, or ``prefect.toml`` or ``pyproject.toml`` in
        the working directory name a server.

    Raises
    ------
    TilewrightError
        Another machine runs a server in this home, or the home cannot be written.
    """
    configured = configured_url()
    if configured is not None:
        return ServerHandle(configured, None, None, None)
    home = home.expanduser().resolve()
    users: IO[str] | None = None
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The order matters: from here on a server that is found does not stop.
        users = locked(home / "users.lock", fcntl.LOCK_SH)
        with locked(home / "start.lock", fcntl.LOCK_EX):
            state = running(home) or spawn(home)
    except OSError as error:
        if users is not None:
            users.close()
        raise TilewrightError(
            f"{home}: no Prefect server can be started here ({error}). "
            "Choose another folder, or set PREFECT_API_URL."
        ) from error
    return ServerHandle(state.url, home, users, state.pid)


def _answers(url: str) -> bool:
    """Tell whether an API is there."""
    loopback = url.startswith(("http://127.0.0.1", "http://localhost"))
    return answers(f"{url.rstrip('/')}/health", through_proxy=not loopback)
