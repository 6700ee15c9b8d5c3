"""The directory of a Zeiss CZI file: which sub-blocks it holds, and where.

A file is a chain of segments; one of them lists all sub-blocks, the rectangles of pixels that were
stored together. Those of pyramid levels are left out here.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import DamageError, UnreadableError
from pipeline.sources.file_bytes import FileBytes

SEGMENT = struct.Struct("<16sqq")  # name, bytes allocated, bytes used
HEADER = struct.Struct("<iiii16s16siqqiq")
ENTRY = np.dtype(
    [
        *(("mark", "S2"), ("pixels", "<i4"), ("at", "<i8"), ("part", "<i4"), ("codec", "<i4")),
        *(("pyramid", "u1"), ("spare", "V5"), ("axes", "<i4")),
    ]
)
AXIS = np.dtype(
    [("name", "S4"), ("start", "<i4"), ("size", "<i4"), ("place", "<f4"), ("stored", "<i4")]
)
DIRECTORY_HEAD_BYTES, METADATA_HEAD_BYTES = 128, 256
#: Axes that tell sub-blocks apart, besides X, Y and M.
PLANE_AXES = ("T", "C", "Z", "S", "V", "R", "I", "H", "B")
NO_MOSAIC = -1
AGAIN = "Copy the file again from its origin."


@dataclass(frozen=True, slots=True)
class Directory:
    """All sub-blocks of the finest level, one element each, in the order of the file.

    Parameters
    ----------
    at : ndarray of int64
        Byte where the segment begins.
    pixels, codec : ndarray of int32
        Numbers of pixel type and compression.
    rows, columns : ndarray of shape (N, 2)
        Half-open, in px of the file's plane; may be negative.
    mosaic : ndarray of int32
        Position in the mosaic, `NO_MOSAIC` where there is none.
    planes : dict of str to ndarray
        Position along each of `PLANE_AXES`.
    metadata_at : int
        Byte where the metadata begin; 0 for none.
    reductions : tuple of int
        How many times smaller the levels of the pyramid are that were left out.
    """

    at: np.ndarray
    pixels: np.ndarray
    codec: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    mosaic: np.ndarray
    planes: dict[str, np.ndarray]
    metadata_at: int
    reductions: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.at)


def read_directory(path: str, files: FileBytes) -> Directory:
    """Read the directory.

    Raises
    ------
    UnreadableError
        No CZI file, or a part of one that was split into several.
    DamageError
        A segment lies behind the end of the file, or is not what it should be.
    """
    size = files.size(path)
    if size < SEGMENT.size + HEADER.size or files.read(path, 0, 10, "its name") != b"ZISRAWFILE":
        raise UnreadableError(path, "is not a CZI file", "Check its suffix and the copy.")
    head = HEADER.unpack(files.read(path, SEGMENT.size, HEADER.size, "its header"))
    part, directory_at, metadata_at, pending = head[6:10]
    if part:
        raise UnreadableError(path, f"is part {part} of a CZI of several files")
    if pending or not directory_at:
        raise DamageError(path, "was not closed by the program that wrote it", "Save it again.")
    body = read_segment(path, files, directory_at, b"ZISRAWDIRECTORY", size)
    count = int.from_bytes(body[:4], "little")
    entries, axes = _entries(path, body[DIRECTORY_HEAD_BYTES:], count)
    if (entries["at"] + SEGMENT.size > size).any() or (entries["at"] < 0).any():
        raise DamageError(
            path,
            f"is cut off: a sub-block begins at byte {entries['at'].max()}, the file ends at "
            f"byte {size}",
            AGAIN,
        )
    if entries["part"].any():
        raise UnreadableError(path, "has sub-blocks in other files")
    return _finest(path, entries, axes, metadata_at)


def read_segment(path: str, files: FileBytes, at: int, name: bytes, size: int) -> bytes:
    """The bytes of a segment behind its head."""
    what = f"segment {name.decode()}"
    found, _, used = SEGMENT.unpack(files.read(path, at, SEGMENT.size, what))
    if found.rstrip(b"\0") != name or not 0 <= used <= size:
        raise DamageError(path, f"{what} is not at byte {at}, where it should be", AGAIN)
    return files.read(path, at + SEGMENT.size, used, what)


def read_metadata(path: str, files: FileBytes, at: int) -> str:
    """The XML of the file; "" where it has none."""
    if not at:
        return ""
    body = read_segment(path, files, at, b"ZISRAWMETADATA", files.size(path))
    count = int.from_bytes(body[:4], "little")
    return body[METADATA_HEAD_BYTES : METADATA_HEAD_BYTES + count].decode("utf-8", "replace")


def parse_entry(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """One entry as it is repeated in the head of its sub-block: itself, and its axes."""
    entry = np.frombuffer(data, ENTRY, 1)
    return entry, np.frombuffer(data, AXIS, int(entry["axes"][0]), ENTRY.itemsize)


def _entries(path: str, data: bytes, count: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Entries, and the axes of each; entries have as many axes as they say."""
    starts: list[int] = []
    position = 0
    for _ in range(count):
        if data[position : position + 2] != b"DV":
            raise DamageError(path, f"entry {len(starts)} of its directory is no entry", AGAIN)
        starts.append(position)
        axes = int.from_bytes(data[position + 28 : position + 32], "little")
        position += ENTRY.itemsize + axes * AXIS.itemsize
        if position > len(data):
            raise DamageError(path, f"its directory breaks off at entry {len(starts) - 1}", AGAIN)
    if not starts:
        raise UnreadableError(path, "is a CZI file without an image")
    raw = np.frombuffer(data, np.uint8)
    offsets = np.array(starts)[:, None]
    entries = raw[offsets + np.arange(ENTRY.itemsize)].view(ENTRY)[:, 0]
    return entries, _axes(raw, np.array(starts), entries["axes"])


def _axes(raw: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    """For each k, the k-th axis of every entry; without a name where it has fewer."""
    found = []
    for k in range(int(counts.max())):
        axis = np.zeros(len(starts), AXIS)
        here = np.flatnonzero(counts > k)
        first = starts[here, None] + ENTRY.itemsize + k * AXIS.itemsize
        axis[here] = raw[first + np.arange(AXIS.itemsize)].view(AXIS)[:, 0]
        found.append(axis)
    return found


def _finest(
    path: str, entries: np.ndarray, axes: Sequence[np.ndarray], metadata_at: int
) -> Directory:
    def of(name: str, field: str, absent: int) -> np.ndarray:
        values = np.full(len(entries), absent, np.int32)
        for axis in axes:
            here = axis["name"] == name.encode()
            values[here] = axis[field][here]
        return values

    sizes = {name: (of(name, "size", 0), of(name, "stored", 0)) for name in "XY"}
    keep = np.ones(len(entries), bool)
    for size, stored in sizes.values():
        keep &= (size == stored) | (stored == 0)
    if not keep.any():
        raise UnreadableError(path, "holds only reduced copies of its pixels")
    if any((of(name, "size", 1)[keep] > 1).any() for name in PLANE_AXES):
        raise UnreadableError(path, "has sub-blocks of several planes")
    if any((size[keep] < 1).any() for size, _ in sizes.values()):
        raise DamageError(path, "has sub-blocks without pixels", AGAIN)
    top, left = of("Y", "start", 0), of("X", "start", 0)
    rows = np.stack([top, top + sizes["Y"][0]], axis=1).astype(np.int64)
    columns = np.stack([left, left + sizes["X"][0]], axis=1).astype(np.int64)
    return Directory(
        entries["at"][keep],
        entries["pixels"][keep],
        entries["codec"][keep],
        rows[keep],
        columns[keep],
        of("M", "start", NO_MOSAIC)[keep],
        {name: of(name, "start", 0)[keep] for name in PLANE_AXES},
        metadata_at,
        _reductions(*sizes["X"]),
    )


def _reductions(sizes: np.ndarray, stored: np.ndarray) -> tuple[int, ...]:
    ratios = np.rint(sizes / np.where(stored > 0, stored, np.maximum(sizes, 1))).astype(int)
    return tuple(n for n in np.unique(ratios).tolist() if n > 1)
