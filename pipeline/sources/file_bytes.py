"""Byte ranges of files, by position: no shared seek, no mapping that a cut file could kill."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

from pipeline.errors import DamageError, UnreadableError
from pipeline.sources.base import os_reason
from pipeline.storage import StorePath, is_url
from pipeline.storage.reading import size_of


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
            raise DamageError(
                path,
                f"{what} is said to lie at byte {max(offsets)}, which no file has",
                "Copy the file again from its origin.",
            ) from error
        for part, count in zip(parts, counts, strict=True):
            if len(part) < count:
                raise DamageError(
                    path,
                    f"is cut off: {what} ends {count - len(part)} bytes behind the end of the file",
                    "Copy the file again from its origin.",
                )
        return parts

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
