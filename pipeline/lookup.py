"""Lookup tables on disk: workers map them and read only their tiles' part."""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import WorkError
from pipeline.files import digest, write_atomically
from pipeline.joined import Joined


@dataclass(frozen=True, slots=True)
class JoinedFile:
    """Where a `Joined` was saved."""

    path: str
    digest: str
    count: int

    def open(self) -> Joined:
        """Map the tables into memory; the file is checked once a process."""
        return _open(self)


def save_joined(path: Path, joined: Joined) -> JoinedFile:
    """Write the tables: offsets and labels, one behind the other."""
    buffer = io.BytesIO()
    np.save(buffer, joined.offsets)
    np.save(buffer, joined.labels)
    data = buffer.getbuffer()
    write_atomically(path, data, durable=True)
    return JoinedFile(str(path), digest(data), joined.count)


@functools.lru_cache(maxsize=4)
def _open(file: JoinedFile) -> Joined:
    try:
        with Path(file.path).open("rb") as stream:
            found = digest(np.memmap(file.path, np.uint8, "r").data)
            if found != file.digest:
                raise WorkError(
                    f"{file.path}: the lookup tables of the unfinished run are damaged. "
                    "Run again with --fresh to start this request over."
                )
            offsets = _mapped(stream, file.path)
            labels = _mapped(stream, file.path)
    except OSError as error:
        raise WorkError(
            f"{file.path}: the lookup tables of the unfinished run cannot be read "
            f"({error.strerror}). Run again with --fresh to start this request over."
        ) from error
    return Joined(offsets, labels, file.count)


def _mapped(stream: io.BufferedReader, path: str) -> NDArray[Any]:
    """Map the next array of an .npy stream and step behind it."""
    np.lib.format.read_magic(stream)
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    begin = stream.tell()
    count = int(np.prod(shape))
    stream.seek(begin + count * dtype.itemsize)
    if count == 0:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", begin, shape)
