"""The output folder of a run: what lies where, and who may write."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import OutputError
from pipeline.files import digest, write_atomically
from pipeline.hold import held
from pipeline.manifest import ImageRow, Manifest
from pipeline.output import OUTLINES
from pipeline.plate_layout import field_folder
from pipeline.sources.parts import Site
from pipeline.storage import AnyPath, StorePath, absolute_path, path_of
from pipeline.storage.folders import delete_folder, move_folder
from pipeline.storage.lease import Lease, leased
from pipeline.stored_records import fetch_records, newest_records, put_records

log = logging.getLogger(__name__)

RUN_JSON = "run.json"
RECIPE = "recipe.yaml"
RECORDS = "run.sqlite"
#: Of the lease of an output in a store.
LOCK = ".tilewright/lock.json"
#: Key of the digest of objects.csv in the records.
CSV = "objects.csv"
#: Where a machine keeps what belongs to runs whose output lies in stores.
CONTROL = Path("~/.tilewright/runs")


def site_in_plate(row: ImageRow) -> Site | None:
    """Where in a published plate an image is; None where it stands by itself."""
    site = row.details.get("site")
    if row.details["output"] != "copy" or not site or not site["row"]:
        return None
    return Site(**site)


class RunFolder:
    """Paths and commits of an output folder, on disk or in a store.

    A store takes whole objects only: the records, which change all the time, are kept by the
    machine that runs (`local`), and put into the store every while and at the end.

    Parameters
    ----------
    root : Path or StorePath
        The folder; need not exist yet.
    work : Path or StorePath, optional
        For scratch and the records of unfinished work, where all workers see it; by default in
        `local`.
    """

    def __init__(self, root: AnyPath, work: AnyPath | None = None) -> None:
        root = absolute_path(root)
        self.root = root
        self.images = self.root / "images"
        self.hidden = self.root / ".tilewright"
        self.local = _local_folder(root)
        self.work = work or self.local / "work"
        self.records = root / RECORDS if isinstance(root, Path) else self.local / RECORDS
        self.report = self.root / "report.html"
        self.recipe = self.root / RECIPE
        self.objects = self.root / "objects.parquet"
        self.quality = self.root / "images.parquet"
        self.profiles = self.root / "profiles"
        self.objects_csv = self.root / CSV
        self.outlines = self.root / OUTLINES
        self.wells = self.root / "wells.parquet"

    def image_path(self, name: str, site: Site | None = None) -> AnyPath:
        """Where the results of an image are published; a site is a place in a plate."""
        if site is not None:
            return field_folder(self.images, site)
        return self.images / f"{name}.ome.zarr"

    def published_path(self, row: ImageRow) -> AnyPath:
        """Where the results of a published image are now, also if this folder was moved."""
        if row.details["output"] == "in_place":
            return path_of(row.details["location"])
        return self.image_path(row.name, site_in_plate(row))

    def table_path(self, name: str, label: str = "") -> AnyPath:
        """Where the object table of one image is kept, of several labels each one's."""
        folder = self.hidden / "tables"
        return (folder / label if label else folder) / f"{name}.parquet"

    def quality_path(self, name: str) -> AnyPath:
        """Where the table of one image's quality is kept."""
        return self.hidden / "quality" / f"{name}.parquet"

    def outlines_path(self, name: str, label: str = "") -> AnyPath:
        """Where the outlines of one image's objects are, of several labels each one's."""
        return (self.outlines / label if label else self.outlines) / f"{name}.geojson"

    def work_path(self, work: str) -> AnyPath:
        return self.work / work

    def staging_path(self, plan: str) -> AnyPath:
        return self.hidden / "staging" / plan

    @contextmanager
    def writing(self) -> Iterator[Manifest]:
        """Open the folder for the one run that may write to it.

        Raises
        ------
        BusyError
            If another run holds it.
        OutputError
            If it cannot be written.
        """
        with ExitStack() as stack:
            stack.enter_context(held(self.root, self.local, "run"))
            lease: Lease | None = None
            if isinstance(self.root, StorePath):
                lock = self.root / LOCK
                lease = stack.enter_context(leased(lock, self.root, "run"))
                fetch_records(self.root / RECORDS, self.records)
            manifest = Manifest(self.records, write=True, lease=lease)
            try:
                yield manifest
            finally:
                # Whoever took the folder over has records of its own there.
                if lease is None or not lease.lost.is_set():
                    self.save_records(manifest)
                manifest.close()

    def save_records(self, manifest: Manifest) -> None:
        """Put the records into the store beside the results; on disk they are there already."""
        if isinstance(self.root, StorePath):
            put_records(manifest, self.root / RECORDS)

    def start_over(self) -> None:
        """Set aside what the folder holds, unless another run is writing there."""
        if self.has_records():
            with self.writing():
                pass
        self.set_aside()

    def has_records(self) -> bool:
        """Whether a run was ever started here."""
        there = isinstance(self.root, StorePath) and (self.root / RECORDS).is_file()
        return there or self.records.is_file()

    def reading(self) -> Manifest:
        """Open the records for reading.

        Raises
        ------
        OutputError
            If this is no output folder.
        """
        try:
            there = self.has_records()
        except OSError as error:
            raise OutputError(f"{self.root}: cannot be read: {error.strerror or error}.") from error
        if not there:
            raise OutputError(
                f"{self.root}: no run was ever started here ({RECORDS} is missing). "
                "Give the OUT folder of a `tilewright run`."
            )
        if isinstance(self.root, StorePath):
            return Manifest(newest_records(self.root / RECORDS, self.records), write=False)
        return Manifest(self.records, write=False)

    def set_aside(self) -> AnyPath | None:
        """Move everything of an earlier request to a folder of its own; nothing is deleted.

        Returns
        -------
        Path, StorePath or None
            Where it is now; None if there was nothing.
        """
        own = [self.images, self.outlines, self.objects, self.objects_csv, self.wells]
        own += [self.quality, self.report, self.recipe, self.root / RECORDS, self.root / RUN_JSON]
        own += [self.hidden / "tables", self.hidden / "quality", self.profiles]
        found = [p for p in own if p.exists()]
        delete_folder(self.work)
        delete_folder(self.hidden / "staging")
        if isinstance(self.root, StorePath):
            self.records.unlink(missing_ok=True)
        if not found:
            return None
        return self._set_aside(found)

    def keep_foreign_files(self) -> None:
        """Move aside what lies where a new run writes its files: nobody knows whose they are."""
        own = [self.objects, self.objects_csv, self.wells, self.quality, self.report, self.recipe]
        own += [self.root / RUN_JSON]
        found = [path for path in own if path.is_file()]
        if found:
            names = ", ".join(path.name for path in found)
            target = self._set_aside(found)
            log.warning("%s: %s of no known run moved to %s", self.root, names, target)

    def is_emptied(self) -> bool:
        """Whether a store holds nothing of the run that this machine remembers."""
        if not isinstance(self.root, StorePath):
            return False
        return all(item.name == LOCK for item in self.root.walk())

    def forget(self, manifest: Manifest) -> None:
        """Drop what is on record, and scratch: their results are gone."""
        manifest.clear()
        delete_folder(self.work)

    def _set_aside(self, found: Sequence[AnyPath]) -> AnyPath:
        target = self.hidden / "previous" / time.strftime("%Y%m%dT%H%M%S")
        while target.exists():
            target = target.with_name(target.name + "x")
        target.mkdir(parents=True)
        for path in found:
            move_folder(path, target / path.name)
        return target

    def write_recipe(self, content: dict[str, Any]) -> None:
        """Write recipe.yaml: all fields of the recipe, those that were not given too."""
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        write_atomically(self.recipe, text.encode(), durable=True)

    def read_recipe(self) -> dict[str, Any]:
        """Read recipe.yaml.

        Raises
        ------
        OutputError
            If it cannot be read.
        """
        try:
            content: dict[str, Any] = yaml.safe_load(self.recipe.read_text("utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise OutputError(f"{self.recipe}: damaged, or not there ({error}).") from error
        return content

    def write_run(self, content: dict[str, Any]) -> None:
        """Write run.json."""
        data = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        write_atomically(self.root / RUN_JSON, data.encode(), durable=True)

    def read_run(self) -> dict[str, Any]:
        """Read run.json; empty if there is none yet."""
        try:
            content: dict[str, Any] = json.loads((self.root / RUN_JSON).read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except OSError as error:
            why = error.strerror or error
            raise OutputError(f"{self.root / RUN_JSON}: cannot be read: {why}.") from error
        except ValueError as error:
            raise OutputError(f"{self.root / RUN_JSON}: damaged ({error}).") from error
        return content


def _local_folder(root: AnyPath) -> Path:
    """Where the machine keeps the records of a run while it goes."""
    if isinstance(root, Path):
        return root / ".tilewright"
    plain = re.sub(r"[^A-Za-z0-9]+", "-", str(root)).strip("-")[-40:]
    return CONTROL.expanduser() / f"{plain}-{digest(str(root).encode())[:8]}"
