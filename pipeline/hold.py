"""Holding an output folder for the one process that may write to it."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import BusyError, OutputError
from pipeline.sources.base import os_reason
from pipeline.storage import AnyPath


@contextmanager
def held(root: AnyPath, hidden: Path, what: str) -> Iterator[None]:
    """Hold a folder; the kernel lets go of it however the process ends.

    Parameters
    ----------
    root : Path or StorePath
        For messages.
    hidden : Path
        A folder, made if it is not there, where the lock lies.
    what : str
        What writes there, for messages: "run" or "training".

    Raises
    ------
    BusyError
        If another process holds it.
    OutputError
        If it cannot be written.
    """
    try:
        hidden.mkdir(parents=True, exist_ok=True)
        lock = (hidden / "lock").open("w")
    except OSError as error:
        there = (isinstance(root, Path) and root.is_file()) or hidden.is_file()
        reason = "a file is in its place" if there else os_reason(error)
        raise OutputError(
            f"{root}: the output folder cannot be written: {reason}. Choose another OUT, "
            "or correct its permissions."
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BusyError(
                f"{root}: another {what} is writing to this folder. Wait for it, or choose "
                "another folder."
            ) from error
        yield
