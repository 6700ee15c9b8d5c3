"""The process of a Prefect server: started by a command, ended when no command uses it.

The server is nobody's child: it is a session of its own, which stops when no command uses it any
more. A command that uses it holds a shared lock on ``users.lock``; the server tries for the
exclusive lock twice a second, and when it gets it there are no users. The kernel drops the locks
of a process however it ends, so kill -9 of a command leaves no server behind, and two commands
need no count of references. (PR_SET_PDEATHSIG would tie it to one command, and there to one
thread.)

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
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import psutil

from pipeline.errors import TilewrightError

log = logging.getLogger(__name__)

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
class State:
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


def running(home: Path) -> State | None:
    """Return the server of this home if it is alive."""
    try:
        state = State(**json.loads((home / "server.json").read_text()))
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
        locked(home / "serving.lock", fcntl.LOCK_EX | fcntl.LOCK_NB).close()
    except OSError:
        return True
    return False


def spawn(home: Path) -> State:
    """Start a server on a free port, in a session of its own, and write ``server.json``."""
    port = _free_port()
    with (home / "server.log").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", CHILD, json.dumps(_import_path()), str(home), str(port)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=home,  # or Prefect would read prefect.toml and .env of the user's folder
            env=server_environment(home, port, os.environ),
            start_new_session=True,  # Ctrl-C is for the command, which still has to report
        )
    # Reap it when it ends, so that it is not a zombie for as long as this process lives.
    threading.Thread(target=process.wait, name="prefect-server", daemon=True).start()
    started = psutil.Process(process.pid).create_time()
    state = State(socket.gethostname(), process.pid, started, port)
    (home / "server.json").write_text(json.dumps(asdict(state)))
    log.info("starting a Prefect server at http://127.0.0.1:%d", port)
    return state


CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from flows.server_process import serve; serve(*sys.argv[2:])"
)


def _import_path() -> list[str]:
    """Return this process's import path, independent of the working directory."""
    return [str(Path(entry).resolve()) for entry in sys.path]


def server_environment(home: Path, port: int, environment: Mapping[str, str]) -> dict[str, str]:
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
    serving = locked(Path(home) / "serving.lock", fcntl.LOCK_SH)
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
            users = locked(home / "users.lock", fcntl.LOCK_EX | fcntl.LOCK_NB)
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


def locked(path: Path, operation: int) -> IO[str]:
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


def has_ended(pid: int) -> bool:
    """Tell whether a process is gone."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True
