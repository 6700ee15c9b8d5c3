"""Byte ranges of files, by position: no shared seek, no mapping that a cut file could kill."""

from __future__ import annotations

import itertools
import os
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.errors import DamageError, UnreadableError
from pipeline.sources.base import os_reason
from pipeline.storage import StorePath, is_url
from pipeline.storage.reading import size_of

#: Buffers that the system fills in one call.
MOST_BUFFERS = min(1024, os.sysconf("SC_IOV_MAX"))


class FileBytes:
    """Read byte ranges of the files that one image spans.

    `pread` rather than a memory map: a file cut during the run gives a short read, where a map
    ends the whole worker with SIGBUS. Threads may share it. Of objects in a store, ranges that lie
    close together are one request.
    """

    def __init__(self) -> None:
        self._handles: dict[str, int] = {}
        self._lock = threading.Lock()

    def size(self, path: str) -> int:
        """Bytes in the file, now."""
        return size_of(path)

    def read(self, path: str, offset: int, count: int, what: object) -> bytes:
        """Exactly `count` bytes, see `read_many`."""
        handle = self._handles.get(path)
        if handle is not None:  # the usual case, for small blocks in little time
            try:
                data = os.pread(handle, count, offset)
            except (OSError, OverflowError):
                data = b""
            if len(data) == count:
                return data
        return self.read_many(path, [offset], [count], what)[0]

    def read_many(
        self, path: str, offsets: Sequence[int], counts: Sequence[int], what: object
    ) -> list[bytes]:
        """Exactly so many bytes from each of some positions.

        Raises
        ------
        DamageError
            The file ends before; `what`, once it is spelled, names what lies there.
        UnreadableError
            The system refuses.
        """
        try:
            if is_url(path):
                parts = StorePath.of(path).read_ranges(offsets, counts)
            else:
                handle = self._handle(path)
                parts = [_read_here(handle, *place) for place in zip(offsets, counts, strict=True)]
        except OSError as error:
            raise UnreadableError(path, f"{what} cannot be read: {os_reason(error)}") from error
        except OverflowError as error:
            raise _nowhere(path, what, max(offsets)) from error
        for part, count in zip(parts, counts, strict=True):
            _require(path, what, count - len(part))
        return parts

    def read_into(
        self, path: str, offset: int, buffers: Sequence[np.ndarray], what: object
    ) -> None:
        """Fill some arrays, contiguous each, with the bytes from a position of a file on a disk.

        Raises
        ------
        DamageError, UnreadableError
            See `read_many`.
        """
        left = deque(buffers)
        try:
            handle = self._handle(path)
            while left:
                batch: Any = list(itertools.islice(left, MOST_BUFFERS))
                count = os.preadv(handle, batch, offset)
                if count == 0:
                    break
                offset += count
                _strike_filled(left, count)
        except OSError as error:
            raise UnreadableError(path, f"{what} cannot be read: {os_reason(error)}") from error
        except OverflowError as error:
            raise _nowhere(path, what, offset) from error
        _require(path, what, sum(buffer.nbytes for buffer in left))

    def _handle(self, path: str) -> int:
        with self._lock:
            if path not in self._handles:
                try:
                    self._handles[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                except OSError as error:
                    raise UnreadableError(path, f"cannot be opened: {os_reason(error)}") from error
            return self._handles[path]

    def close(self) -> None:
        with self._lock:
            for handle in self._handles.values():
                os.close(handle)
            self._handles.clear()


def _strike_filled(left: deque[np.ndarray], count: int) -> None:
    """Leave what remains of some arrays when their first `count` bytes are there."""
    while count:
        buffer = left.popleft()
        count -= buffer.nbytes
        if count < 0:
            left.appendleft(buffer.reshape(-1).view(np.uint8)[count:])
            return


def _nowhere(path: str, what: object, offset: int) -> DamageError:
    return DamageError(
        path,
        f"{what} is said to lie at byte {offset}, which no file has",
        "Copy the file again from its origin.",
    )


def _require(path: str, what: object, missing: int) -> None:
    if missing:
        raise DamageError(
            path,
            f"is cut off: {what} ends {missing} bytes behind the end of the file",
            "Copy the file again from its origin.",
        )


def _read_here(handle: int, offset: int, count: int) -> bytes:
    """`count` bytes from a position, or what there is before the end of the file."""
    parts = []
    while count > 0:
        part = os.pread(handle, count, offset)
        if not part:
            break
        parts.append(part)
        offset, count = offset + len(part), count - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
