"""Records: dictionaries of small arrays, the only thing that rounds pass on.

A record is a plain ``dict[str, ndarray]``. On disk it is one file: an ``.npz`` archive without
pickled objects, guarded by a digest that its reader checks.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.files import digest, write_atomically

Array = NDArray[Any]
Record = dict[str, Array]


def pack(record: Mapping[str, Array]) -> bytes:
    """Serialise a record; equal records give equal bytes."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {key: np.asarray(record[key]) for key in sorted(record)}
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def unpack(data: bytes) -> Record:
    """Undo `pack`."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def save(path: Path, record: Mapping[str, Array]) -> str:
    """Write a record atomically.

    Returns
    -------
    str
        Its digest, which `open_record` wants back.
    """
    data = pack(record)
    write_atomically(path, data)
    return digest(data)
