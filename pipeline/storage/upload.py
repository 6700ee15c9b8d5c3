"""Putting files into stores: small ones in one request, large ones in parts, a few at a time.

One request would hold a large file in memory as a whole, has to end within its time limit, and may
not be above 5 GiB.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from obstore.exceptions import BaseError

from pipeline.storage.paths import StorePath
from pipeline.storage.stores import as_os_errors, open_store, retried

#: Above it a file is put in parts of this size, or of more where it would have too many of them.
PART_BYTES = 16 << 20
MOST_PARTS = 10_000
#: Parts that travel at once.
AT_ONCE = 4


def upload(file: Path, target: StorePath) -> None:
    """Put the content of a file, as a whole, in place of what there was.

    Raises
    ------
    OSError
        As for files.
    """
    size = file.stat().st_size
    if size <= PART_BYTES:
        target.write_bytes(file.read_bytes())
        return
    with as_os_errors(str(target)):
        before = retried(lambda: _version(target))
        retried(lambda: _put_in_parts(file, size, target, before))


def _put_in_parts(file: Path, size: int, target: StorePath, before: object) -> None:
    part = max(PART_BYTES, -(-size // MOST_PARTS))
    store = open_store(target.root)
    try:
        store.put(target.key, file, use_multipart=True, chunk_size=part, max_concurrency=AT_ONCE)
    except (BaseError, FileNotFoundError):
        # When the reply to the end of a put is lost, the end is asked for again, and refused: the
        # parts are gone. All the same the object is there, and new.
        now = retried(lambda: _version(target))
        if now == before or now is None or now[0] != size:
            raise


def _version(target: StorePath) -> tuple[int, Any, Any] | None:
    """What changes when an object is put; None if there is none."""
    try:
        meta: Any = open_store(target.root).head(target.key)
    except FileNotFoundError:
        return None
    return int(meta["size"]), meta["e_tag"], meta["last_modified"]
