"""Which files of an archive are new or changed, and have come to rest.

A file is taken when two looks at it, at least `settle_seconds` apart, found the same size and time:
one that is still being copied waits. What was taken and done is not taken again, unless its content
is another. All of that is on record, so that a look can be interrupted anywhere.
"""

from __future__ import annotations

import os
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import xxhash

from pipeline.errors import RecipeError
from pipeline.storage import AnyPath, StorePath
from pipeline.storage.reading import open_file

SCHEMA = """
CREATE TABLE IF NOT EXISTS file (
    path TEXT PRIMARY KEY,
    signature TEXT NOT NULL,   -- size and time
    since REAL NOT NULL,       -- when this signature was first seen
    done TEXT NOT NULL,        -- signature of what was done last; '' before
    checksum TEXT NOT NULL,    -- of its content; '' if it was not asked for
    gone INTEGER NOT NULL
);
"""

READ_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look at the archive found.

    Parameters
    ----------
    ready : dict of str to str
        Paths of files to take, and their signatures.
    waiting : int
        Files that may still be written.
    removed : list of str
        Files that were done and are not there any more, since the last look.
    """

    ready: dict[str, str]
    waiting: int
    removed: list[str]


class Arrivals:
    """The record of an archive's files.

    Parameters
    ----------
    path : Path
        An SQLite file, made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, timeout=30, isolation_level=None)
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        self._db.close()

    def look(
        self,
        paths: Iterable[str],
        settle_seconds: float,
        now: float,
        sign: Callable[[str], str] | None = None,
    ) -> Looked:
        """Compare the files that are there with the record, and bring it up to date.

        Parameters
        ----------
        paths : iterable of str
            All images of the archive, files or OME-Zarr folders.
        settle_seconds : float
        now : float
            In seconds since 1970.
        sign : callable
            Gives what changes with an image, see `signer`; by default of images on disk.
        """
        sign = sign or signature_of
        known = {row[0]: row[1:] for row in self._db.execute("SELECT * FROM file")}
        ready, waiting, there = {}, 0, set()
        with self._transaction():
            for path in paths:
                signature = sign(path)
                if not signature:
                    continue  # gone since it was listed
                there.add(path)
                before, since, done, _, gone = known.get(path, ("", now, "", "", 0))
                if signature != before or gone:
                    since = now
                    self._db.execute(
                        "INSERT INTO file VALUES (?, ?, ?, '', '', 0) ON CONFLICT (path) DO UPDATE "
                        "SET signature = excluded.signature, since = excluded.since, gone = 0",
                        (path, signature, now),
                    )
                if signature == done and not gone:
                    continue
                if now - since >= settle_seconds:
                    ready[path] = signature
                else:
                    waiting += 1
            removed = [path for path, row in known.items() if path not in there and not row[4]]
            marks = [(path,) for path in removed]
            self._db.executemany("UPDATE file SET gone = 1 WHERE path = ?", marks)
        return Looked(ready, waiting, [path for path in removed if known[path][2]])

    def without_copies(self, ready: dict[str, str]) -> dict[str, str]:
        """Leave out, and note as done, files that were written again with the same content."""
        kept = {}
        for path, signature in ready.items():
            found = checksum_of(path)
            (before, done), *_ = self._db.execute(
                "SELECT checksum, done FROM file WHERE path = ?", (path,)
            )
            self._db.execute("UPDATE file SET checksum = ? WHERE path = ?", (found, path))
            if done and found and found == before:
                self.finish({path: signature})
            else:
                kept[path] = signature
        return kept

    def finish(self, taken: dict[str, str]) -> None:
        """Note that files were published or refused as they were when they were taken."""
        with self._transaction():
            self._db.executemany(
                "UPDATE file SET done = ? WHERE path = ?", [(s, path) for path, s in taken.items()]
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def signer(archive: AnyPath, paths: Iterable[str]) -> Callable[[str], str]:
    """What gives the signatures of an archive's images; empty for one that is gone since.

    Raises
    ------
    RecipeError
        The archive is on the web, where nothing can be listed.
    """
    if isinstance(archive, Path):
        return signature_of
    found = _stored_signatures(archive, paths)
    return lambda path: found.get(path, "")


def _stored_signatures(archive: StorePath, paths: Iterable[str]) -> dict[str, str]:
    """Count, size and versions of the objects of each image; a listing gives a thousand of them."""
    if not archive.can_list:
        raise RecipeError(f"{archive}: the web cannot be watched, for it lists nothing. Use a run.")
    wanted, objects = set(paths), defaultdict[str, list[tuple[str, int, str]]](list)
    head = archive.head() if archive.key else None
    alone = [] if head is None else [(archive, head)]
    for place, item in chain(alone, ((archive / item.name, item) for item in archive.walk())):
        while str(place) not in wanted and place.key:  # an object of an OME-Zarr
            place = place.parent
        objects[str(place)].append((item.name, item.size, item.version))
    return {
        path: f"{len(parts)}-{sum(size for _, size, _ in parts)}-{_digest(parts)}"
        for path, parts in objects.items()
        if path in wanted
    }


def _digest(parts: Iterable[tuple[str, int, str]]) -> str:
    return xxhash.xxh3_128(repr(sorted(parts)).encode()).hexdigest()


def signature_of(path: str) -> str:
    """Size and time of a file, or of all files of a folder; empty if it is not there."""
    count, size, newest = 0, 0, 0
    for status in _files(path):
        count, size = count + 1, size + status.st_size
        newest = max(newest, status.st_mtime_ns)
    return f"{count}-{size}-{newest}" if count else ""


def checksum_of(path: str) -> str:
    """xxh3_128 of a file's content; empty for folders, and for what cannot be read."""
    digest = xxhash.xxh3_128()
    try:
        with open_file(path) as file:
            while block := file.read(READ_BYTES):
                digest.update(block)
    except OSError:
        return ""
    return str(digest.hexdigest())


def _files(path: str) -> Iterator[os.stat_result]:
    with suppress(OSError):
        status = os.stat(path)  # noqa: PTH116 - links are followed, as by the readers
        if not os.path.isdir(path):  # noqa: PTH112
            yield status
            return
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                yield os.stat(os.path.join(folder, name))  # noqa: PTH116, PTH118 - 1e5 of them
