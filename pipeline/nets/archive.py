"""Zip archives that torch writes: what they may hold, and nothing else.

Every file is read here and an archive of what was checked is written anew. So torch reads what was
checked, also where two readers of zip files would not agree on one.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from pipeline.errors import ModelError

#: Weights hardly compress; what shrinks more than that is a bomb.
MAX_RATIO = 200


def read_archive(data: bytes | io.BytesIO, where: str) -> dict[str, bytes]:
    """Every file of a zip archive, by its path without the archive's own folder.

    Raises
    ------
    ModelError
        If it is no zip file, is damaged, holds a path twice or would fill the memory.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data) if isinstance(data, bytes) else data) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            names = [entry.filename for entry in entries]
            if len(set(names)) < len(names):
                raise ModelError(f"{where}: the archive holds a file twice. Export the model anew.")
            for entry in entries:
                check_ratio(entry, where)
            files = {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"{where}: not a zip archive, which torch writes, or damaged ({error})."
        ) from error
    return {"/".join(PurePosixPath(name).parts[1:]): held for name, held in files.items()}


def check_ratio(entry: zipfile.ZipInfo, where: str) -> None:
    """Raise ModelError if a file of an archive is a zip bomb."""
    if entry.file_size > MAX_RATIO * entry.compress_size + 2**20:
        raise ModelError(
            f"{where}: {entry.filename} would grow from {entry.compress_size:,} to "
            f"{entry.file_size:,} bytes, more than {MAX_RATIO} times: a zip bomb."
        )


def write_archive(files: Mapping[str, bytes]) -> io.BytesIO:
    """An archive of these files as torch reads it: in one folder, uncompressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(f"model/{name}", data)
    buffer.seek(0)
    return buffer


def pickled_globals(data: bytes, where: str) -> set[str]:
    """Names that a pickle would import, as "module name"; nothing is unpickled.

    Raises
    ------
    ModelError
        If it is no pickle, or puts a name together while it is read.
    """
    found = set()
    try:
        for code, value, _ in pickletools.genops(data):
            if code.name == "GLOBAL":
                found.add(str(value))
            elif code.name in {"STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"}:
                raise ModelError(
                    f"{where}: its pickle holds {code.name}, which torch never writes."
                )
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise ModelError(f"{where}: a damaged pickle ({error}).") from error
    return found


def refuse(what: str, names: Iterable[str], where: str, remedy: str) -> None:
    """Raise ModelError if there are any names."""
    if found := sorted(names):
        shown = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
        raise ModelError(f"{where}: {what}: {shown}. {remedy}")
