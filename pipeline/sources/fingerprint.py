"""Cheap identity of files: sizes, times and the ends, never the whole content."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import xxhash

from pipeline.errors import UnreadableError
from pipeline.sources.base import os_reason

END_BYTES = 1 << 20


def fingerprint_file(path: Path) -> str:
    """Size, mtime_ns, and xxh3_128 of the first and the last MiB.

    Raises
    ------
    UnreadableError
        The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            digest = xxhash.xxh3_128(file.read(END_BYTES))
            file.seek(max(END_BYTES, status.st_size - END_BYTES))
            digest.update(file.read(END_BYTES))
    except OSError as error:
        raise UnreadableError(str(path), f"cannot be read: {os_reason(error)}") from error
    return f"{status.st_size}-{status.st_mtime_ns}-{digest.hexdigest()}"


def fingerprint_files(paths: Iterable[Path]) -> str:
    """One fingerprint of several files, whatever their order."""
    parts = sorted(f"{path.name} {fingerprint_file(path)}" for path in paths)
    return str(xxhash.xxh3_128("\n".join(parts).encode()).hexdigest())


def fingerprint_zarr(metadata: Iterable[Path], chunks: Path) -> str:
    """The bytes of `metadata`, and (path, size, mtime_ns) of every file under `chunks`.

    Raises
    ------
    UnreadableError
        A folder or a file cannot be read.
    """
    digest = xxhash.xxh3_128()
    try:
        for path in metadata:
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        for name, size, mtime_ns in sorted(_files_under(chunks, "")):
            digest.update(f"{name} {size} {mtime_ns}\n".encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise UnreadableError(
            str(error.filename or chunks), f"cannot be read: {os_reason(error)}"
        ) from error
    return str(digest.hexdigest())


def _files_under(folder: Path, prefix: str) -> Iterable[tuple[str, int, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{prefix}{entry.name}"
            if entry.is_dir():
                yield from _files_under(Path(entry.path), f"{name}/")
            else:
                status = entry.stat()
                yield name, status.st_size, status.st_mtime_ns
