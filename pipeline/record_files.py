"""Reading the records of a step: one file a batch of tiles, opened lazily, checked once."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import WorkError
from pipeline.files import digest
from pipeline.records import Record

Array = NDArray[Any]

#: Number of the pseudo-tile that holds the combined record of a batch.
COMBINED = -1


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


@functools.lru_cache(maxsize=128)
def open_record(path: str, expected: str) -> Mapping[str, Array]:
    """A batch's record on disk; arrays are read when asked for.

    Raises
    ------
    WorkError
        If the file is missing or is not what was written.
    """
    remedy = "Run again with --fresh to start this request over."
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise WorkError(
            f"{path}: a record of the unfinished run cannot be read ({error.strerror}). {remedy}"
        ) from error
    if digest(data) != expected:
        raise WorkError(
            f"{path}: a record of the unfinished run was changed or damaged on disk. {remedy}"
        )
    archive: Mapping[str, Array] = np.load(path, allow_pickle=False)
    return archive
