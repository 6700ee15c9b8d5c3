"""Lookup tables on disk: workers map them and read only their tiles' part."""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pipeline.errors import WorkError
from pipeline.files import digest, digest_of_file, write_atomically
from pipeline.joined import Joined
from pipeline.mapped import mapped_array
from pipeline.storage import AnyPath, path_of


@dataclass(frozen=True, slots=True)
class JoinedFile:
    """Where a `Joined` was saved."""

    path: str
    digest: str
    count: int

    def open(self) -> Joined:
        """Map the tables into memory; the file is checked once a process."""
        return _open(self)


def save_joined(path: AnyPath, joined: Joined) -> JoinedFile:
    """Write the tables: offsets and labels, one behind the other."""
    buffer = io.BytesIO()
    np.save(buffer, joined.offsets)
    np.save(buffer, joined.labels)
    data = buffer.getbuffer()
    write_atomically(path, data, durable=True)
    return JoinedFile(str(path), digest(data), joined.count)


def _opened(path: AnyPath) -> BinaryIO:
    return path.open("rb") if isinstance(path, Path) else io.BytesIO(path.read_bytes())


@functools.lru_cache(maxsize=4)
def _open(file: JoinedFile) -> Joined:
    try:
        with _opened(path_of(file.path)) as stream:
            if digest_of_file(stream) != file.digest:
                raise WorkError(
                    f"{file.path}: the lookup tables of the unfinished run are damaged. "
                    "Run again with --fresh to start this request over."
                )
            stream.seek(0)
            read = np.load if isinstance(stream, io.BytesIO) else mapped_array
            offsets, labels = read(stream), read(stream)
    except OSError as error:
        raise WorkError(
            f"{file.path}: the lookup tables of the unfinished run cannot be read "
            f"({error.strerror}). Run again with --fresh to start this request over."
        ) from error
    return Joined(offsets, labels, file.count)
