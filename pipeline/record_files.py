"""Reading records from disk: one file a batch of tiles or a state, opened lazily, checked once."""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import WorkError
from pipeline.files import digest, digest_of_file
from pipeline.mapped import mapped_array
from pipeline.records import Record, unpack
from pipeline.storage import is_url, path_of

Array = NDArray[Any]

#: Number of the pseudo-tile that holds the combined record of a batch.
COMBINED = -1
#: Arrays of this size are mapped; smaller ones would fill their pages with others' bytes.
MAPPED_BYTES = 2**16


def flatten(records: Mapping[int, Mapping[str, Array]], kind: str) -> Record:
    """Records of several tiles as one: keys become "tile|kind|key"."""
    return {
        f"{tile}|{kind}|{key}": value
        for tile, record in records.items()
        for key, value in record.items()
    }


class Part(Mapping[str, Array]):
    """The record of one tile within a batch's record; reads what is asked for."""

    def __init__(self, whole: Mapping[str, Array], tile: int, kind: str) -> None:
        self._whole = whole
        self._prefix = f"{tile}|{kind}|"

    def __getitem__(self, key: str) -> Array:
        return self._whole[self._prefix + key]

    def __iter__(self) -> Iterator[str]:
        n = len(self._prefix)
        return (key[n:] for key in self._whole if key.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def round_records(
    whole: Mapping[str, Array], numbers: Iterable[int]
) -> Iterator[tuple[int, Record]]:
    """What a round left in a batch's record, with the number of its tile, or `COMBINED`."""
    for tile in (COMBINED, *numbers):
        record = dict(Part(whole, tile, "round"))
        if record:
            yield tile, record


class _Archive(Mapping[str, Array]):
    """A record on disk; small arrays are read when asked for, large ones are mapped."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._npz = np.load(path, allow_pickle=False)

    def __getitem__(self, key: str) -> Array:
        member = self._npz.zip.getinfo(f"{key}.npy") if key in self._npz else None
        if member is None or member.file_size < MAPPED_BYTES:
            found: Array = self._npz[key]
            return found
        # A stream of its own: several threads may read the same archive.
        with Path(self._path).open("rb") as stream:
            stream.seek(member.header_offset)
            name, extra = struct.unpack("<26x2H", stream.read(30))
            stream.seek(name + extra, os.SEEK_CUR)
            return mapped_array(stream)

    def __iter__(self) -> Iterator[str]:
        return iter(self._npz.files)

    def __len__(self) -> int:
        return len(self._npz.files)


@functools.lru_cache(maxsize=128)
def open_record(path: str, expected: str) -> Mapping[str, Array]:
    """A record on disk, checked; arrays are read or mapped when asked for.

    Raises
    ------
    WorkError
        If the file is missing or is not what was written.
    """
    remedy = "Run again with --fresh to start this request over."
    content = b""
    try:
        if is_url(path):
            content = path_of(path).read_bytes()
            found = digest(content)
        else:
            with Path(path).open("rb") as stream:
                found = digest_of_file(stream)
    except OSError as error:
        raise WorkError(
            f"{path}: a record of the unfinished run cannot be read ({error.strerror}). {remedy}"
        ) from error
    if found != expected:
        raise WorkError(
            f"{path}: a record of the unfinished run was changed or damaged on disk. {remedy}"
        )
    return unpack(content) if is_url(path) else _Archive(path)
