"""Byte ranges of files, by position: no shared seek, no mapping that a cut file could kill."""

from __future__ import annotations

import os
import threading

from pipeline.errors import DamageError, UnreadableError
from pipeline.sources.base import os_reason


class FileBytes:
    """Read byte ranges of the files that one TIFF series spans.

    `pread` rather than a memory map: a file cut during the run gives a short read, where a map
    ends the whole worker with SIGBUS. Threads may share it.
    """

    def __init__(self) -> None:
        self._handles: dict[str, int] = {}
        self._lock = threading.Lock()

    def size(self, path: str) -> int:
        """Bytes in the file, now."""
        return os.fstat(self._handle(path)).st_size

    def read(self, path: str, offset: int, count: int, what: str) -> bytes:
        """Exactly `count` bytes.

        Raises
        ------
        DamageError
            The file ends before; `what` names what lies there.
        UnreadableError
            The system refuses.
        """
        try:
            parts, handle = [], self._handle(path)
            while count > 0:
                part = os.pread(handle, count, offset)
                if not part:
                    raise DamageError(
                        path,
                        f"is cut off: {what} ends {count} bytes behind the end of the file",
                        "Copy the file again from its origin.",
                    )
                parts.append(part)
                offset, count = offset + len(part), count - len(part)
        except OSError as error:
            raise UnreadableError(path, f"{what} cannot be read: {os_reason(error)}") from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

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
