"""Whole folders: moved or deleted on disk, copied and then deleted in stores.

A store has no rename, and folders there are only what names have in common. So a group is copied
object by object within the store, the metadata at its root last: whoever sees a group there sees
all of it. The metadata are also what is deleted first.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pipeline.errors import OutputError
from pipeline.storage.paths import AnyPath, StorePath
from pipeline.storage.upload import upload

#: Objects that make a folder a zarr group or array.
ROOTS = ("zarr.json", ".zgroup", ".zattrs", ".zarray")
#: Requests to a store at once.
AT_ONCE = 16

T = TypeVar("T")


def delete_folder(folder: AnyPath) -> None:
    """Delete a folder with all that is in it; nothing happens where there is none."""
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
        return
    names = [item.name for item in folder.walk()]
    for part in _roots_apart(names):
        _at_once(lambda name: (folder / name).unlink(missing_ok=True), part)


def copy_folder(source: StorePath, target: StorePath) -> None:
    """Copy all objects of a folder to another one of the same store; the root's metadata last."""
    names = [item.name for item in source.walk()]
    for part in reversed(_roots_apart(names)):
        _at_once(lambda name: (source / name).copy_to(target / name), part)


def move_folder(path: AnyPath, target: AnyPath) -> None:
    """Move a file or a folder; in a store it is copied and then deleted.

    Raises
    ------
    OutputError
        If one place is in a store and the other on disk.
    """
    if isinstance(path, Path) and isinstance(target, Path):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)  # labels in an archive may lie on another disk
    elif isinstance(path, StorePath) and isinstance(target, StorePath):
        if path.is_file():
            path.copy_to(target)
            path.unlink()
        copy_folder(path, target)
        delete_folder(path)
    else:
        raise OutputError(
            f"{path}: cannot be kept at {target}, for one is in a store and the other on disk. "
            "Choose an OUT where the archive is."
        )


def is_copy(source: StorePath, target: StorePath) -> bool:
    """Whether a folder holds the objects of another one and no others."""
    found = {(item.name, item.size, item.version) for item in source.walk()}
    return found == {(item.name, item.size, item.version) for item in target.walk()}


def is_group(folder: AnyPath) -> bool:
    """Whether the metadata of a zarr group or array are there, which come last."""
    return any((folder / name).is_file() for name in ROOTS)


def put_file(file: Path, target: AnyPath) -> None:
    """Move a file to its place, or put its content there."""
    if isinstance(target, Path):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(file, target)
        return
    upload(file, target)
    file.unlink()


@contextmanager
def written_here(target: AnyPath) -> Iterator[Path]:
    """A file or folder on disk to write to, which then lies at `target`.

    On disk it is the target itself; for a store it is temporary, and what is in it is put there
    when all is written, the metadata at its root last.
    """
    if isinstance(target, Path):
        target.parent.mkdir(parents=True, exist_ok=True)
        yield target
        return
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder) / target.name
        yield here
        if here.is_file():
            put_file(here, target)
            return
        delete_folder(target)
        names = [item.relative_to(here).as_posix() for item in here.rglob("*") if item.is_file()]
        for part in reversed(_roots_apart(names)):
            _at_once(lambda name: put_file(here / name, target / name), part)


def _roots_apart(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Metadata at the root, and everything else."""
    every = list(names)
    roots = [name for name in every if name in ROOTS]
    return roots, [name for name in every if name not in ROOTS]


def _at_once(work: Callable[[T], None], items: Iterable[T]) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(work, items):
            pass
