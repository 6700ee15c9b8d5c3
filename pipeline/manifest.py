"""The records of a run: one SQLite file, one writer, any number of readers.

Rows follow their data: a batch's row is written when its record file is in place, an image's row
when its results have been renamed into place. A row lost with a crash costs its work again,
nothing else. Rollback journal, not WAL, so that it also works on network file systems.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import OutputError
from pipeline.ledger import Ledger
from pipeline.methods.base import State
from pipeline.names import readable
from pipeline.orders import Receipt
from pipeline.record_files import open_record
from pipeline.records import save
from pipeline.storage import AnyPath
from pipeline.storage.lease import Lease

log = logging.getLogger(__name__)

SCHEMA = """
CREATE TABLE IF NOT EXISTS run (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS image (
    name TEXT PRIMARY KEY,      -- relative path without suffix, as under OUT/images
    plan TEXT NOT NULL,         -- identity of the request: recipe, code, content of the source
    status TEXT NOT NULL,       -- published | quarantined | running
    source TEXT NOT NULL,       -- path of the source
    reason TEXT NOT NULL,       -- why it is quarantined
    details TEXT NOT NULL,      -- JSON: sizes, counts, certificate, seconds, location
    digest TEXT NOT NULL,       -- of the labels at level 0
    changed REAL NOT NULL       -- seconds since 1970
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS shard (
    image TEXT NOT NULL, array TEXT NOT NULL, number INTEGER NOT NULL, digest TEXT NOT NULL,
    PRIMARY KEY (image, array, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batch (
    work TEXT NOT NULL,         -- image at work, with its tile size
    step TEXT NOT NULL, first INTEGER NOT NULL, numbers TEXT NOT NULL,
    digests TEXT NOT NULL, path TEXT NOT NULL, pixels INTEGER NOT NULL, seconds REAL NOT NULL,
    PRIMARY KEY (work, step, first)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS step (
    work TEXT NOT NULL, step TEXT NOT NULL, path TEXT NOT NULL, digest TEXT NOT NULL,
    PRIMARY KEY (work, step)
) WITHOUT ROWID;
"""

#: Rows read at once.
PAGE_ROWS = 1000

#: Rows wait this long for company before they are forced to disk.
COMMIT_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class ImageRow:
    """What is on record of one image."""

    name: str
    plan: str
    status: str
    source: str
    reason: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    digest: str = ""
    changed: float = 0.0


class Manifest:
    """The record store of an output folder.

    Parameters
    ----------
    path : Path
        The SQLite file; made if it does not exist and `write` is true.
    write : bool
        Only one process may write; a second one is refused.
    lease : Lease, optional
        How the folder is held, where it lies in a store.

    Raises
    ------
    OutputError
        If another run writes to it, or it is no such file.
    """

    def __init__(self, path: Path, *, write: bool, lease: Lease | None = None) -> None:
        self._lease = lease
        self._lock = threading.RLock()
        self._committed = time.monotonic()
        # After a crash a reader, too, must be able to roll back what was being written.
        mode = "rwc" if write else "rw" if os.access(path, os.W_OK) else "ro"
        try:
            self._db = sqlite3.connect(
                f"file:{path}?mode={mode}", uri=True, check_same_thread=False, timeout=30
            )
            if write:
                self._db.executescript(SCHEMA)
            self._db.execute("SELECT 1 FROM image LIMIT 1").fetchone()
        except sqlite3.Error as error:
            raise OutputError(
                f"{path}: the run's records cannot be opened ({error}). "
                "Is it the output folder of a tilewright run?"
            ) from error

    def require_held(self) -> None:
        """Raises BusyError where the folder in a store is another run's by now."""
        if self._lease is not None:
            self._lease.require()

    def close(self) -> None:
        with self._lock:
            self._db.commit()
            self._db.close()

    def content(self) -> bytes:
        """The whole file as it is now, all that was written included."""
        with self._lock:
            self.commit()
            return bytes(self._db.serialize())

    def get(self, key: str) -> str | None:
        """A fact of the run."""
        row = self._one("SELECT value FROM run WHERE key = ?", key)
        return None if row is None else str(row[0])

    def put(self, key: str, value: str) -> None:
        """Keep a fact of the run."""
        self._write("INSERT OR REPLACE INTO run VALUES (?, ?)", key, value)
        self.commit()

    def image(self, name: str) -> ImageRow | None:
        row = self._one("SELECT * FROM image WHERE name = ?", name)
        return None if row is None else _image_row(row)

    def images(self) -> Iterator[ImageRow]:
        """All images, by name; a few at a time, for there may be 10^5."""
        last = ""
        while True:
            rows = self._all(
                "SELECT * FROM image WHERE name > ? ORDER BY name LIMIT ?", last, PAGE_ROWS
            )
            for row in rows:
                yield _image_row(row)
            if len(rows) < PAGE_ROWS:
                return
            last = str(rows[-1][0])

    def counts(self) -> dict[str, int]:
        """Images a status."""
        return dict(self._all("SELECT status, COUNT(*) FROM image GROUP BY status"))

    def set_image(self, row: ImageRow, shards: dict[str, list[str]] | None = None) -> None:
        """Record an image's status, and what was published of it, in one transaction."""
        with self._lock:
            self._write(
                "INSERT OR REPLACE INTO image VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                row.name,
                row.plan,
                row.status,
                readable(row.source),
                readable(row.reason),
                json.dumps(row.details),
                row.digest,
                time.time(),
            )
            if shards is not None:
                self._write("DELETE FROM shard WHERE image = ?", row.name)
                for array, digests in shards.items():
                    self._db.executemany(
                        "INSERT INTO shard VALUES (?, ?, ?, ?)",
                        [(row.name, array, i, item) for i, item in enumerate(digests)],
                    )
            self._commit_soon()

    def shards(self, image: str, array: str) -> list[str]:
        """Digests of an array's shards in order; the last is that of its coarse levels."""
        rows = self._all(
            "SELECT digest FROM shard WHERE image = ? AND array = ? ORDER BY number", image, array
        )
        return [str(row[0]) for row in rows]

    def arrays(self, image: str) -> list[str]:
        rows = self._all("SELECT DISTINCT array FROM shard WHERE image = ?", image)
        return [str(row[0]) for row in rows]

    def forget_image(self, name: str) -> None:
        """Drop an image that the archive does not hold any more."""
        self._write("DELETE FROM image WHERE name = ?", name)
        self.commit()

    def forget_work(self, work: str) -> None:
        """Drop the steps of an image that is finished or starts over."""
        with self._lock:
            self._write("DELETE FROM batch WHERE work = ?", work)
            self._write("DELETE FROM step WHERE work = ?", work)
            self.commit()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            for table in ("run", "image", "shard", "batch", "step"):
                self._write(f"DELETE FROM {table}")
            self.commit()

    def works(self) -> set[str]:
        """Names of all unfinished work of which anything is on record."""
        return {
            str(row[0]) for row in self._all("SELECT work FROM batch UNION SELECT work FROM step")
        }

    def work_in_progress(self) -> dict[str, tuple[int, float]]:
        """Batches and seconds recorded for every unfinished image."""
        rows = self._all("SELECT work, COUNT(*), SUM(seconds) FROM batch GROUP BY work")
        return {str(work): (int(count), float(seconds)) for work, count, seconds in rows}

    def commit(self) -> None:
        with self._lock:
            self._db.commit()
            self._committed = time.monotonic()

    def _commit_soon(self) -> None:
        if time.monotonic() - self._committed > COMMIT_SECONDS:
            self.commit()

    def _write(self, sql: str, *values: object) -> None:
        with self._lock:
            self._db.execute(sql, values)

    def _one(self, sql: str, *values: object) -> tuple[Any, ...] | None:
        with self._lock:
            row: tuple[Any, ...] | None = self._db.execute(sql, values).fetchone()
            return row

    def _all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    def _receipts(self, work: str, step: str) -> list[Receipt]:
        rows = self._all(
            "SELECT numbers, digests, path, pixels, seconds FROM batch "
            "WHERE work = ? AND step = ? ORDER BY first",
            work,
            step,
        )
        return [
            Receipt(tuple(json.loads(n)), tuple(json.loads(d)), path, {}, pixels, seconds)
            for n, d, path, pixels, seconds in rows
        ]

    def _add_receipt(self, work: str, step: str, receipt: Receipt) -> None:
        with self._lock:
            self._write(
                "INSERT OR REPLACE INTO batch VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                work,
                step,
                receipt.numbers[0],
                json.dumps(receipt.numbers),
                json.dumps(receipt.digests),
                receipt.path,
                receipt.pixels,
                receipt.seconds,
            )
            self._commit_soon()

    def _step(self, work: str, step: str) -> tuple[str, str] | None:
        row = self._one("SELECT path, digest FROM step WHERE work = ? AND step = ?", work, step)
        return None if row is None else (str(row[0]), str(row[1]))

    def _close_step(self, work: str, step: str, path: str, found: str) -> None:
        with self._lock:
            self._write("INSERT OR REPLACE INTO step VALUES (?, ?, ?, ?)", work, step, path, found)
            self.commit()


class ManifestLedger(Ledger):
    """One image's steps in the manifest.

    Parameters
    ----------
    manifest : Manifest
    work : str
        Name of the unfinished work: the image's plan and its tile size.
    folder : Path or StorePath
        Where the states of steps are kept.
    """

    persistent = True

    def __init__(self, manifest: Manifest, work: str, folder: AnyPath) -> None:
        self._manifest = manifest
        self._work = work
        self._folder = folder

    def receipts(self, step: str) -> list[Receipt]:
        return self._manifest._receipts(self._work, step)

    def add(self, step: str, receipt: Receipt) -> None:
        self._manifest._add_receipt(self._work, step, receipt)
        log.info("%s %s %s: %.2f s", self._work, step, list(receipt.numbers), receipt.seconds)

    def state(self, step: str) -> State | None:
        found = self._manifest._step(self._work, step)
        return None if found is None else {**open_record(*found)}

    def close_step(self, step: str, state: State) -> None:
        path = self._folder / f"{step}.npz"
        self._manifest._close_step(self._work, step, str(path), save(path, state))


def _image_row(row: Iterable[Any]) -> ImageRow:
    name, plan, status, source, reason, details, digest, changed = row
    return ImageRow(name, plan, status, source, reason, json.loads(details), digest, changed)
