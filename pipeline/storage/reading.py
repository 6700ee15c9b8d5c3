"""Reading files wherever they lie: as streams, and by byte ranges."""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO, cast

from pipeline.storage.paths import StorePath, is_url, path_of

#: Headers are read in many small pieces; each would be a request of its own.
BLOCK_BYTES = 256 << 10
BLOCKS = 64


class StoreFile(io.RawIOBase):
    """An object as a file that can be sought in; keeps the blocks that were read last.

    Parameters
    ----------
    path : StorePath

    Raises
    ------
    OSError
        It is missing, or the store does not answer.
    """

    def __init__(self, path: StorePath) -> None:
        super().__init__()
        head = path.head()
        if head is None:
            path.read_bytes()  # says in what way it is missing
            raise FileNotFoundError(str(path))
        self.name = str(path)
        self._path, self._size, self._at = path, head.size, 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = start + offset
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        room = memoryview(buffer)
        number, within = divmod(self._at, BLOCK_BYTES)
        part = self._block(number)[within : within + len(room)]
        room[: len(part)] = part
        self._at += len(part)
        return len(part)

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            start = number * BLOCK_BYTES
            count = min(BLOCK_BYTES, self._size - start)
            self._blocks[number] = self._path.read_ranges([start], [count])[0] if count > 0 else b""
            if len(self._blocks) > BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return self._blocks[number]


def open_file(path: str) -> BinaryIO:
    """Open a file or an object for reading.

    Raises
    ------
    OSError
        As for files.
    """
    if not is_url(path):
        return Path(path).open("rb")
    return cast(BinaryIO, io.BufferedReader(StoreFile(StorePath.of(path)), BLOCK_BYTES))


def size_of(path: str) -> int:
    """Bytes of a file or an object."""
    place = path_of(path)
    if isinstance(place, Path):
        return place.stat().st_size
    head = place.head()
    if head is None:
        raise FileNotFoundError(path)
    return head.size
