"""Child processes that are started in order, started again when they end, and stopped together."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path

from flows.probe import answers, tail
from flows.service.settings import SECRET_VARIABLES, STORE_VARIABLES
from flows.service.units import Unit
from pipeline.errors import TilewrightError
from workers.orphans import end_with_parent

log = logging.getLogger(__name__)

START_SECONDS = 120.0
"""Limit for a unit to be ready; Prefect's first start makes its database, in 20 s on 2 cores."""

STOP_SECONDS = 20.0
"""What a unit gets to end by itself."""

PAUSES_SECONDS = (1.0, 2.0, 5.0, 15.0, 60.0)
"""Between the end of a unit and its next start; begins anew after `CALM_SECONDS` without an end."""

CALM_SECONDS = 300.0
POLL_SECONDS = 0.5


class Supervisor:
    """Runs units until it is told to stop.

    Parameters
    ----------
    units : sequence of Unit
        In the order in which they start; they are stopped in the other one.
    logs : Path
        Folder that they run in, and of their output, one file a unit.
    to_files : bool
        False: their output goes where that of this process goes.
    """

    def __init__(self, units: Sequence[Unit], logs: Path, to_files: bool = True) -> None:
        self._logs = logs
        self._children = [_Child(unit, logs / f"{unit.name}.log", to_files) for unit in units]
        self._stopping = threading.Event()

    def start(self) -> bool:
        """Start all, each when the ones before it are ready.

        Returns
        -------
        bool
            False: `stop` was called meanwhile.

        Raises
        ------
        TilewrightError
            If one ends, or is not ready in time; those before it are stopped.
        """
        self._logs.mkdir(parents=True, exist_ok=True)
        try:
            for child in self._children:
                child.start()
                if not child.wait_until_ready(self._stopping):
                    return False
        except BaseException:
            self.shut_down()
            raise
        return True

    def watch(self) -> None:
        """Start again what ends, until `stop` is called or all units are done."""
        while not all(child.done for child in self._children):
            if self._stopping.wait(POLL_SECONDS):
                return
            for child in self._children:
                child.revive()

    def stop(self, *_: object) -> None:
        """End `watch`; may be a handler of signals."""
        self._stopping.set()

    def shut_down(self) -> None:
        """Stop all units, the last one first."""
        self._stopping.set()
        for child in reversed(self._children):
            child.stop()


class _Child:
    def __init__(self, unit: Unit, log_path: Path, to_files: bool) -> None:
        self.unit = unit
        self.done = False
        self._log_path = log_path
        self._to_files = to_files
        self._process: subprocess.Popen[bytes] | None = None
        self._ends = 0
        self._started = 0.0
        self._next_start = 0.0

    def start(self) -> None:
        inherited = {
            name: value
            for name, value in os.environ.items()
            # A server that was set for the user's commands is not for the units, nor are secrets
            # for all of them.
            if not name.startswith("PREFECT_")
            and (self.unit.reads_settings or name not in SECRET_VARIABLES)
            and (self.unit.reads_stores or not name.startswith(STORE_VARIABLES))
        }
        self._started = time.monotonic()
        with self._log_path.open("ab") if self._to_files else nullcontext() as output:
            self._process = subprocess.Popen(
                list(self.unit.command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**inherited, "PYTHONUNBUFFERED": "1", **self.unit.environment},
                # Prefect would read prefect.toml and .env of the folder that the user is in.
                cwd=self._log_path.parent,
                start_new_session=True,  # Ctrl-C is for the supervisor
                preexec_fn=partial(end_with_parent, signal.SIGTERM),
            )
        log.info("%s: started, process %d", self.unit.name, self._process.pid)

    def wait_until_ready(self, stopping: threading.Event) -> bool:
        """Wait; False if it is to be stopped."""
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            if self._process is not None and self._process.poll() is not None:
                raise TilewrightError(self._complaint("ended while it started"))
            if time.monotonic() > deadline:
                raise TilewrightError(self._complaint(f"is not ready after {START_SECONDS:.0f} s"))
            if stopping.wait(0.1):
                return False
        return True

    def revive(self) -> None:
        """Start the unit again if it has ended, after a pause that grows; not if it is done."""
        if self.done:
            return
        now = time.monotonic()
        if self.unit.once and self._process is not None and self._process.poll() == 0:
            log.info("%s: has ended as it was meant to", self.unit.name)
            self.done = True
            return
        if self._process is not None and self._process.poll() is not None:
            if now - self._started > CALM_SECONDS:
                self._ends = 0
            pause = PAUSES_SECONDS[min(self._ends, len(PAUSES_SECONDS) - 1)]
            self._ends += 1
            ended = (
                f"ended with status {self._process.returncode}; it starts again in {pause:.0f} s"
            )
            log.warning(self._complaint(ended))
            self._process = None
            self._next_start = now + pause
        if self._process is None and now >= self._next_start:
            self.start()

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            log.warning("%s does not end: it is killed", self.unit.name)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.info("%s: stopped", self.unit.name)

    def _is_ready(self) -> bool:
        if self.unit.ready_url:
            return answers(self.unit.ready_url)
        if self.unit.port:
            with suppress(OSError), socket.create_connection((self.unit.host, self.unit.port), 1):
                return True
            return False
        return True

    def _complaint(self, what: str) -> str:
        if not self._to_files:
            return f"{self.unit.name} {what}."
        return f"{self.unit.name} {what}. Its log {self._log_path} ends:\n{tail(self._log_path)}"
