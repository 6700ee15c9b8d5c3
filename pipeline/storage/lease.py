"""Holding a folder in a store for one process: an object that is put only if none is there.

A store lets nobody go when a process ends. So the holder puts its sign anew every while, and a
holder that gave none for long, or a process of this machine that is gone, is taken for dead.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from pipeline.errors import BusyError, OutputError
from pipeline.storage.paths import StorePath

log = logging.getLogger(__name__)

#: Seconds between two signs of life, and after which there is no hope.
SIGN_S = 30.0
DEAD_S = 180.0


class Lease:
    """A folder that is held, as far as the last look at it tells."""

    def __init__(self, root: StorePath, what: str) -> None:
        self._root, self._what = root, what
        self.lost = threading.Event()

    def require(self) -> None:
        """Ask before anything is published.

        Raises
        ------
        BusyError
            Another process took this one for dead, and writes there.
        """
        if self.lost.is_set():
            raise BusyError(
                f"{self._root}: another {self._what} took this one for dead, for it had given no "
                f"sign for {DEAD_S:.0f} s, and writes to this folder. This one stops; what it "
                "finished is kept."
            )


@contextmanager
def leased(lock: StorePath, root: StorePath, what: str) -> Iterator[Lease]:
    """Hold a folder.

    Parameters
    ----------
    lock : StorePath
        The object that says who holds it.
    root : StorePath
        The folder, for messages.
    what : str
        What writes there, for messages.

    Raises
    ------
    BusyError
        Another process holds it.
    OutputError
        The store does not take the object.
    """
    me = {"host": socket.gethostname(), "pid": os.getpid(), "token": uuid.uuid4().hex}
    try:
        _take(lock, root, what, me)
    except OSError as error:
        raise OutputError(
            f"{root}: the output folder cannot be written: {error.strerror or error}. "
            "Check the address, the keys in the environment and their rights."
        ) from error
    ended, lease = threading.Event(), Lease(root, what)
    signs = threading.Thread(target=_give_signs, args=(lock, me, ended, lease), daemon=True)
    signs.start()
    try:
        yield lease
    finally:
        ended.set()
        signs.join(timeout=SIGN_S)
        try:
            if _is_mine(lock, me):
                lock.unlink(missing_ok=True)
        except OSError as error:
            log.info("%s could not be deleted: %s", lock, error)


def _take(lock: StorePath, root: StorePath, what: str, me: dict[str, object]) -> None:
    if lock.create(_signed(me)):
        return
    other = _read(lock)
    if other is not None and not _is_dead(other):
        raise BusyError(
            f"{root}: another {what} is writing to this folder: process {other.get('pid')} on "
            f"{other.get('host')}. Wait for it, or choose another folder. If it is dead, it is "
            f"taken for dead {DEAD_S:.0f} s after its last sign."
        )
    lock.write_bytes(_signed(me))
    # Of two that find a dead one at once, the last to put its name stays.
    time.sleep(1.0)
    if not _is_mine(lock, me):
        raise BusyError(f"{root}: another {what} has just begun to write to this folder.")


def _give_signs(
    lock: StorePath, me: dict[str, object], ended: threading.Event, lease: Lease
) -> None:
    while not ended.wait(SIGN_S):
        try:
            if not _is_mine(lock, me):
                log.warning("%s: another process took this one for dead, and writes", lock)
                lease.lost.set()
                return
            lock.write_bytes(_signed(me))
        except OSError as error:
            log.info("%s could not be put: %s", lock, error)


def _signed(me: dict[str, object]) -> bytes:
    return json.dumps({**me, "time": time.time()}).encode()


def _read(lock: StorePath) -> dict[str, object] | None:
    try:
        found: dict[str, object] = json.loads(lock.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return found


def _is_mine(lock: StorePath, me: dict[str, object]) -> bool:
    return (_read(lock) or {}).get("token") == me["token"]


def _is_dead(other: dict[str, object]) -> bool:
    here = other.get("host") == socket.gethostname()
    if here and not psutil.pid_exists(int(str(other.get("pid", 0)))):
        return True
    return time.time() - float(str(other.get("time", 0))) > DEAD_S
