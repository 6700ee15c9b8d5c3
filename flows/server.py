"""A Prefect server for one command, shared with the commands that run beside it.

The server is nobody's child: it is a session of its own, which stops when no command uses it any
more. A command that uses it holds a shared lock on ``users.lock``; the server tries for the
exclusive lock twice a second, and when it gets it there are no users. The kernel drops the locks
of a process however it ends, so kill -9 of a command leaves no server behind, and two commands
need no count of references. (PR_SET_PDEATHSIG would tie it to one command, and there to one
thread.)

Seconds until the API answers, on 2 cores: first start ever in a home 17, of which 10 are Alembic
migrations that cannot be had cheaper (the models' `create_all` fails in Prefect 3.8); later starts
6-7, of which 5.5 are imports; a server that runs already 0.01. Hence `start_server` returns at once
with the URL set, and `ServerHandle.wait` comes after the imports and the planning.

Files in a home: ``prefect.db``, ``server.log`` (of the last start), ``server.json`` (host, pid,
port), and the locks: ``start.lock`` (one start at a time), ``users.lock`` (held by commands) and
``serving.lock`` (held by servers).
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import psutil

from flows.probe import answers, tail
from pipeline.errors import TilewrightError

log = logging.getLogger(__name__)

START_SECONDS = 120.0
"""Limit for a start; 17 s is usual for the first one on 2 cores, and machines get busy."""

ANSWER_SECONDS = 10.0
"""Limit for a server that should run already."""

WATCH_SECONDS = 0.5
GRACE_SECONDS = 10.0

_OFF = (
    "PREFECT_SERVER_ANALYTICS_ENABLED",
    # Services for deployments, schedules and automations. Idle: 6 % of a core with, 2 % without.
    "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED",
    "PREFECT_SERVER_SERVICES_FOREMAN_ENABLED",
    "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_ENABLED",
    "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_ENABLED",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED",
    "PREFECT_SERVER_SERVICES_REPOSSESSOR_ENABLED",
    "PREFECT_SERVER_SERVICES_CLEANUP_RECONCILER_ENABLED",
)


@dataclass(frozen=True)
class _State:
    """Contents of ``server.json``: which process serves a home, and where."""

    host: str
    pid: int
    started: float
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def is_alive(self) -> bool:
        """Tell whether that very process runs here, not another one that got its number."""
        with suppress(psutil.Error):
            process = psutil.Process(self.pid)
            return (
                abs(process.create_time() - self.started) < 10.0  # NTP moves the boot time
                and process.status() != psutil.STATUS_ZOMBIE
            )
        return False


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
            if self._pid is not None and _has_ended(self._pid):
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
        users = _locked(home / "users.lock", fcntl.LOCK_SH)
        with _locked(home / "start.lock", fcntl.LOCK_EX):
            state = _running(home) or _spawn(home)
    except OSError as error:
        if users is not None:
            users.close()
        raise TilewrightError(
            f"{home}: no Prefect server can be started here ({error}). "
            "Choose another folder, or set PREFECT_API_URL."
        ) from error
    return ServerHandle(state.url, home, users, state.pid)


def configured_url() -> str | None:
    """Return the server that the user has set, without importing Prefect (2 s).

    The order is Prefect's: environment, ``prefect.toml``, ``pyproject.toml``, profile. A ``.env``
    file is not read.
    """
    url = os.environ.get("PREFECT_API_URL")
    if url:
        return url
    for name, keys in (("prefect.toml", ("api",)), ("pyproject.toml", ("tool", "prefect", "api"))):
        found = _from_toml(Path(name), (*keys, "url"))
        if found:
            return found
    return _profile_url()


def _profile_url() -> str | None:
    """Return PREFECT_API_URL of the active profile."""
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect")
    path = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    active = os.environ.get("PREFECT_PROFILE") or _from_toml(path, ("active",))
    return _from_toml(path, ("profiles", active, "PREFECT_API_URL")) if active else None


def _from_toml(path: Path, keys: tuple[str, ...]) -> str | None:
    """Return one string of a TOML file, None if the file or the string is not there."""
    try:
        value: object = tomllib.loads(path.read_text())
    except (OSError, ValueError):
        return None
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) and value else None


def _running(home: Path) -> _State | None:
    """Return the server of this home if it is alive."""
    try:
        state = _State(**json.loads((home / "server.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
    if state.host != socket.gethostname():
        # Its loopback is not ours, and SQLite must not be shared over a network file system.
        if _is_served(home):
            raise TilewrightError(
                f"{home}: the Prefect server of {state.host} uses this folder. Choose another "
                "folder, or set PREFECT_API_URL to a server that both machines reach."
            )
        return None
    return state if state.is_alive() else None


def _is_served(home: Path) -> bool:
    """Tell whether a server of any machine uses this home (NFS passes flock on)."""
    try:
        _locked(home / "serving.lock", fcntl.LOCK_EX | fcntl.LOCK_NB).close()
    except OSError:
        return True
    return False


def _spawn(home: Path) -> _State:
    """Start a server on a free port, in a session of its own, and write ``server.json``."""
    port = _free_port()
    with (home / "server.log").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _CHILD, json.dumps(_import_path()), str(home), str(port)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=home,  # or Prefect would read prefect.toml and .env of the user's folder
            env=_server_environment(home, port, os.environ),
            start_new_session=True,  # Ctrl-C is for the command, which still has to report
        )
    # Reap it when it ends, so that it is not a zombie for as long as this process lives.
    threading.Thread(target=process.wait, name="prefect-server", daemon=True).start()
    started = psutil.Process(process.pid).create_time()
    state = _State(socket.gethostname(), process.pid, started, port)
    (home / "server.json").write_text(json.dumps(asdict(state)))
    log.info("starting a Prefect server at http://127.0.0.1:%d", port)
    return state


_CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from flows.server import serve; serve(*sys.argv[2:])"
)


def _import_path() -> list[str]:
    """Return this process's import path, independent of the working directory."""
    return [str(Path(entry).resolve()) for entry in sys.path]


def _server_environment(home: Path, port: int, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the server's environment: ours, what the user set for servers, the user's rest."""
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith("PREFECT_") or name.startswith("PREFECT_SERVER_")
    }
    return {
        **dict.fromkeys(_OFF, "false"),
        "PREFECT_SERVER_UI_ENABLED": "true",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        **kept,
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_UI_API_URL": f"http://127.0.0.1:{port}/api",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
    }


def serve(home: str, port: str) -> None:
    """Run ``prefect server start`` in this process until nobody uses it (main of the child)."""
    serving = _locked(Path(home) / "serving.lock", fcntl.LOCK_SH)
    watch = threading.Thread(target=_stop_without_users, args=(Path(home),), daemon=True)
    watch.start()
    sys.argv = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
    from prefect.cli import app

    app()
    serving.close()


def _stop_without_users(home: Path) -> None:
    """Wait for the exclusive lock, then end this process."""
    while True:
        time.sleep(WATCH_SECONDS)
        try:
            users = _locked(home / "users.lock", fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        # A command that comes now waits for the lock, and then finds no server.
        with users:
            if _serves(home, os.getpid()):
                (home / "server.json").unlink(missing_ok=True)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_SECONDS)  # open connections, such as a browser's
        os._exit(1)


def _serves(home: Path, pid: int) -> bool:
    """Tell whether ``server.json`` is about this process."""
    try:
        return bool(json.loads((home / "server.json").read_text())["pid"] == pid)
    except (OSError, ValueError, KeyError):
        return False


def _locked(path: Path, operation: int) -> IO[str]:
    """Open a file and lock it; closing it, or the end of the process, unlocks it."""
    file = path.open("a")
    try:
        fcntl.flock(file, operation)
    except OSError:
        file.close()
        raise
    return file


def _free_port() -> int:
    """Return a port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    """Tell whether an API is there."""
    loopback = url.startswith(("http://127.0.0.1", "http://localhost"))
    return answers(f"{url.rstrip('/')}/health", through_proxy=not loopback)


def _has_ended(pid: int) -> bool:
    """Tell whether a process is gone."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True
