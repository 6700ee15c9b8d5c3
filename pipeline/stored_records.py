"""Records of a run whose output lies in a store: kept on a disk, and put beside the results.

Every putting counts one more, so that of two machines the one that went on last is known.
"""

from __future__ import annotations

import logging
from pathlib import Path

from pipeline.errors import OutputError
from pipeline.files import write_atomically
from pipeline.manifest import Manifest
from pipeline.storage import StorePath

log = logging.getLogger(__name__)

#: How often the records were put.
SAVED = "saved"
#: Where records lie that are only looked at.
FETCHED = "fetched.sqlite"


def put_records(manifest: Manifest, place: StorePath) -> None:
    """Put the records into the store.

    A store that does not take them is only told of: they are still on the disk.
    """
    manifest.put(SAVED, str(_saved(manifest) + 1))
    try:
        place.write_bytes(manifest.content())
    except OSError as error:
        log.warning("%s: the records could not be put there (%s)", place, error.strerror or error)


def fetch_records(place: StorePath, records: Path) -> None:
    """Take the records of the store where another machine has gone on since.

    Those of the disk, if they are of no use any more, are kept beside.

    Raises
    ------
    OutputError
        The store does not answer.
    """
    found = newest_records(place, records)
    if found == records:
        return
    if records.is_file():
        records.replace(records.with_suffix(".older.sqlite"))
    found.replace(records)


def newest_records(place: StorePath, records: Path) -> Path:
    """The records that are farther: those on the disk, or a copy of those in the store.

    Raises
    ------
    OutputError
        The store does not answer.
    """
    try:
        content = place.read_bytes()
    except FileNotFoundError:
        return records
    except OSError as error:
        raise OutputError(f"{place}: cannot be read: {error.strerror or error}.") from error
    fetched = records.with_name(FETCHED)
    write_atomically(fetched, content)
    if records.is_file() and _saved_in(fetched) <= _saved_in(records):
        fetched.unlink()
        return records
    return fetched


def _saved_in(records: Path) -> int:
    manifest = Manifest(records, write=False)
    try:
        return _saved(manifest)
    finally:
        manifest.close()


def _saved(manifest: Manifest) -> int:
    return int(manifest.get(SAVED) or 0)
