"""Cheap identity of files: sizes, times and the ends, never the whole content.

Of objects in a store it is their size and their entity tag, which changes with the content.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import xxhash

from pipeline.errors import UnreadableError
from pipeline.sources.base import os_reason
from pipeline.storage import AnyPath, StorePath

END_BYTES = 1 << 20


def fingerprint_file(path: AnyPath) -> str:
    """Size, mtime_ns, and xxh3_128 of the first and the last MiB; or an object's size and tag.

    Raises
    ------
    UnreadableError
        The file cannot be read.
    """
    try:
        if isinstance(path, StorePath):
            return _of_object(path)
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            digest = xxhash.xxh3_128(file.read(END_BYTES))
            file.seek(max(END_BYTES, status.st_size - END_BYTES))
            digest.update(file.read(END_BYTES))
    except OSError as error:
        raise UnreadableError(str(path), f"cannot be read: {os_reason(error)}") from error
    return f"{status.st_size}-{status.st_mtime_ns}-{digest.hexdigest()}"


def fingerprint_files(paths: Iterable[AnyPath]) -> str:
    """One fingerprint of several files, whatever their order."""
    parts = sorted(f"{path.name} {fingerprint_file(path)}" for path in paths)
    return str(xxhash.xxh3_128("\n".join(parts).encode()).hexdigest())


def fingerprint_zarr(metadata: Iterable[AnyPath], chunks: AnyPath) -> str:
    """The bytes of `metadata`, and (path, size, mtime_ns) of every file under `chunks`.

    Of objects it is their tag in place of the time. On the web nothing can be listed: there it is
    the metadata alone, so that other pixels under the same metadata are not noticed.

    Raises
    ------
    UnreadableError
        A folder or a file cannot be read.
    """
    digest = xxhash.xxh3_128()
    try:
        for path in metadata:
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        if isinstance(chunks, StorePath):
            listed = chunks.walk() if chunks.can_list else ()
            found = ((item.name, item.size, item.version) for item in listed)
        else:
            found = ((name, size, str(time)) for name, size, time in _files_under(chunks, ""))
        for name, size, version in sorted(found):
            digest.update(f"{name} {size} {version}\n".encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise UnreadableError(
            str(error.filename or chunks), f"cannot be read: {os_reason(error)}"
        ) from error
    return str(digest.hexdigest())


def _of_object(path: StorePath) -> str:
    head = path.head()
    if head is None:
        raise FileNotFoundError(f"{path} does not exist")
    return f"{head.size}-{head.version}"


def _files_under(folder: Path | str, prefix: str) -> Iterable[tuple[str, int, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{prefix}{entry.name}"
            if entry.is_dir():
                yield from _files_under(Path(entry.path), f"{name}/")
            else:
                status = entry.stat()
                yield name, status.st_size, status.st_mtime_ns
