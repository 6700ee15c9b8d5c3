"""Records: dictionaries of small arrays, the only thing that rounds pass on.

A record is a plain ``dict[str, ndarray]``. On disk it is one file: an ``.npz`` archive without
pickled objects, guarded by a digest that its reader checks. Its arrays begin at multiples of 64
bytes, so that they can be used where they lie.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.files import digest, write_atomically
from pipeline.storage import AnyPath

Array = NDArray[Any]
Record = dict[str, Array]

ALIGNED_BYTES = 64
#: Of a member's header in the archive, without its name; and of an empty extra field.
HEADER_BYTES = 30 + 20
FIELD_BYTES = 4
#: Ours, for what fills the extra field.
FIELD_ID = 0x7774


def pack(record: Mapping[str, Array]) -> bytes:
    """Serialise a record; equal records give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for key in sorted(record):
            member = zipfile.ZipInfo(f"{key}.npy")
            member.extra = _filling(buffer.tell() + HEADER_BYTES + len(member.filename.encode()))
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(record[key]), allow_pickle=False)
    return buffer.getvalue()


def _filling(place: int) -> bytes:
    """An extra field after which a member that would begin at `place` is aligned."""
    length = -(place + FIELD_BYTES) % ALIGNED_BYTES
    return struct.pack("<HH", FIELD_ID, length) + bytes(length)


def unpack(data: bytes) -> Record:
    """Undo `pack`."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def save(path: AnyPath, record: Mapping[str, Array]) -> str:
    """Write a record atomically.

    Returns
    -------
    str
        Its digest, which `open_record` wants back.
    """
    data = pack(record)
    write_atomically(path, data)
    return digest(data)
