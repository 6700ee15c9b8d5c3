"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import hashlib
import os
import uuid
from typing import BinaryIO

import xxhash

from pipeline.storage import AnyPath, StorePath


def write_atomically(path: AnyPath, data: bytes | memoryview, *, durable: bool = False) -> None:
    """Write `data` beside `path` and rename it into place; `durable` forces it to disk first.

    In a store an object is put as a whole anyway.
    """
    if isinstance(path, StorePath):
        path.write_bytes(data)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def digest(*parts: bytes | memoryview) -> str:
    """XXH3-128 of the parts one after the other, in hexadecimal.

    It guards against accidents (lost chunks, flipped bits), not against forgery; at more than
    10 GB/s it costs nothing beside the pixels' compression.
    """
    state = xxhash.xxh3_128()
    for part in parts:
        state.update(part)
    return str(state.hexdigest())


def digest_of_file(stream: BinaryIO) -> str:
    """`digest` of what an open file holds, read in blocks: no more is in memory."""
    return str(hashlib.file_digest(stream, xxhash.xxh3_128).hexdigest())  # type: ignore[arg-type]
