"""The output folder of a run: what lies where, who may write, and how results are committed."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import yaml
import zarr

from pipeline.errors import OutputError
from pipeline.files import write_atomically
from pipeline.hold import held
from pipeline.manifest import Manifest
from pipeline.output import FRAGMENTS, GRAPHS, LABELS, PARTS, place_of

RUN_JSON = "run.json"
RECIPE = "recipe.yaml"
RECORDS = "run.sqlite"


class RunFolder:
    """Paths and commits of an output folder.

    Parameters
    ----------
    root : Path
        The folder; need not exist yet.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))  # noqa: PTH100 - resolve() would rename links
        self.images = self.root / "images"
        self.hidden = self.root / ".tilewright"
        self.records = self.root / RECORDS
        self.report = self.root / "report.html"
        self.recipe = self.root / RECIPE
        self.objects = self.root / "objects.parquet"

    def image_path(self, name: str) -> Path:
        """Where the results of an image are published."""
        return self.images / f"{name}.ome.zarr"

    def table_path(self, name: str) -> Path:
        """Where the object table of one image is kept."""
        return self.hidden / "tables" / f"{name}.parquet"

    def work_path(self, work: str) -> Path:
        return self.hidden / "work" / work

    def staging_path(self, plan: str) -> Path:
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
        with held(self.root, self.hidden, "run"):
            manifest = Manifest(self.records, write=True)
            try:
                yield manifest
            finally:
                manifest.close()

    def start_over(self) -> None:
        """Set aside what the folder holds, unless another run is writing there."""
        if self.records.is_file():
            with self.writing():
                pass
        self.set_aside()

    def reading(self) -> Manifest:
        """Open the records for reading.

        Raises
        ------
        OutputError
            If this is no output folder.
        """
        if not self.records.is_file():
            raise OutputError(
                f"{self.root}: no run was ever started here ({RECORDS} is missing). "
                "Give the OUT folder of a `tilewright run`."
            )
        return Manifest(self.records, write=False)

    def publish(self, staged: Path, name: str, plan: str) -> None:
        """Move an image's staged results into place; what was there is kept under previous/."""
        target = self.image_path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            self._keep(target, f"{name}.ome.zarr", plan)
        staged.rename(target)

    def publish_in_place(self, staged: Path, label: str, source: Path, zarr_format: int) -> None:
        """Move staged labels into the source OME-Zarr and list them there.

        What belongs to the labels goes first, so that whoever sees the labels finds it. That of an
        earlier request does not stay beside labels that it does not belong to.
        """
        version: Literal[2, 3] = 3 if zarr_format == 3 else 2
        # Another's label may have the name of fragments that were never ours. They go before the
        # graph that tells them, for this may be interrupted and done again.
        ours = [place_of(part, label) for part in PARTS if part != FRAGMENTS]
        fragments = place_of(FRAGMENTS, label)
        if (staged / fragments).exists() or (source / place_of(GRAPHS, label)).exists():
            ours.insert(0, fragments)
        for place in ours:
            target = source / place
            if target.exists():
                self._keep(target, f"{source.name}/{place}", "replaced")
            if (staged / place).exists():
                zarr.open_group(target.parent, mode="a", zarr_format=version)
                (staged / place).rename(target)
        group = zarr.open_group(source / LABELS, mode="a", zarr_format=version)
        found: Any = group.attrs.get("ome", {"version": "0.5"})
        ome: dict[str, Any] = dict(found)
        known: Any = ome.get("labels", []) if zarr_format == 3 else group.attrs.get("labels", [])
        names = [Path(place).name for place in reversed(ours) if place.startswith(LABELS)]
        there = [name for name in names if (source / LABELS / name).exists()]
        listing = [*(n for n in known if n not in names or n in there)]
        listing += [name for name in there if name not in listing]
        if zarr_format == 3:
            group.attrs["ome"] = {**ome, "labels": listing}
        else:
            group.attrs["labels"] = listing
        shutil.rmtree(staged, ignore_errors=True)

    def take_back(self, staged: Path, name: str) -> None:
        """Undo `publish`, where a crash came between it and its record."""
        if not staged.exists() and self.image_path(name).exists():
            staged.parent.mkdir(parents=True, exist_ok=True)
            self.image_path(name).rename(staged)

    def take_back_in_place(
        self, staged: Path, label: str, source: Path, parts: Sequence[str]
    ) -> None:
        """Undo `publish_in_place`, but for the listing, which names the label in any case."""
        for part in parts:
            place = place_of(part, label)
            if not (staged / place).exists() and (source / place).exists():
                (staged / place).parent.mkdir(parents=True, exist_ok=True)
                (source / place).rename(staged / place)

    def set_aside(self) -> Path | None:
        """Move everything of an earlier request to a folder of its own; nothing is deleted.

        Returns
        -------
        Path or None
            Where it is now; None if there was nothing.
        """
        own = (self.images, self.objects, self.report, self.records, self.recipe)
        found = [p for p in (*own, self.root / RUN_JSON, self.hidden / "tables") if p.exists()]
        for scratch in ("work", "staging"):
            shutil.rmtree(self.hidden / scratch, ignore_errors=True)
        if not found:
            return None
        target = self.hidden / "previous" / time.strftime("%Y%m%dT%H%M%S")
        while target.exists():
            target = target.with_name(target.name + "x")
        target.mkdir(parents=True)
        for path in found:
            path.rename(target / path.name)
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
        except OSError:
            return {}
        except ValueError as error:
            raise OutputError(f"{self.root / RUN_JSON}: damaged ({error}).") from error
        return content

    def _keep(self, path: Path, name: str, plan: str) -> None:
        stamp = f"{time.strftime('%Y%m%dT%H%M%S')}-{plan[:8]}"
        target = self.hidden / "previous" / stamp / name
        number = 0
        while target.exists():
            number += 1
            target = self.hidden / "previous" / f"{stamp}-{number}" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)  # labels in an archive may lie on another disk
