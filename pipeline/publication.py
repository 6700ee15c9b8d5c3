"""How results are committed: moved into place, or copied in a store, and taken back after a crash.

What lay there before is kept. Each step can be done again; decision 2 has their order.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import zarr

from pipeline.anndata_table import is_ours, list_table
from pipeline.output import FRAGMENTS, GRAPHS, LABELS, PARTS, TABLES, place_of
from pipeline.plate_layout import list_field, strike_field
from pipeline.run_folder import RunFolder
from pipeline.sources.parts import Site
from pipeline.storage import AnyPath, StorePath
from pipeline.storage.folders import copy_folder, delete_folder, is_copy, is_group, move_folder
from pipeline.storage.zarr_store import zarr_place


class Publication:
    """Puts staged results where they belong: into a run's folder, or into the archive.

    Parameters
    ----------
    folder : RunFolder
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def publish(self, staged: AnyPath, name: str, plan: str, site: Site | None = None) -> None:
        """Move an image's staged results into place; what was there is kept under previous/.

        In a store they are copied, and stay staged until `discard`.
        """
        target = self._folder.image_path(name, site)
        if site is not None and target.exists():
            strike_field(target)
        self._replace(staged, target, f"{name}.ome.zarr", plan)
        if site is not None:
            list_field(target, site)

    def publish_file(self, staged: AnyPath, target: AnyPath) -> None:
        """Move a staged file into place, or copy it in a store; it replaces what was there."""
        if isinstance(staged, StorePath) and isinstance(target, StorePath):
            staged.copy_to(target)
        elif isinstance(staged, Path) and isinstance(target, Path):
            target.parent.mkdir(parents=True, exist_ok=True)
            staged.replace(target)

    def discard(self, staged: AnyPath) -> None:
        """Delete what was copied and is recorded; on disk it was moved."""
        if isinstance(staged, StorePath):
            delete_folder(staged)

    def discard_leftovers(self, plans: set[str]) -> None:
        """Delete what a crash left staged of images that are recorded."""
        staging = self._folder.hidden / "staging"
        if isinstance(staging, StorePath):
            for entry in staging.entries():
                if entry.name in plans:
                    delete_folder(staging / entry.name)

    def publish_in_place(
        self, staged: AnyPath, labels: Sequence[str], source: AnyPath, zarr_format: int
    ) -> None:
        """Move staged labels into the source OME-Zarr and list them there.

        What belongs to the labels goes first, so that whoever sees the labels finds it. That of an
        earlier request does not stay beside labels that it does not belong to.
        """
        version: Literal[2, 3] = 3 if zarr_format == 3 else 2
        names: list[str] = []
        for label in labels:
            names += self._move_in_place(staged, label, source, version)
        group = zarr.open_group(zarr_place(source / LABELS), mode="a", zarr_format=version)
        found: Any = group.attrs.get("ome", {"version": "0.5"})
        ome: dict[str, Any] = dict(found)
        known: Any = ome.get("labels", []) if zarr_format == 3 else group.attrs.get("labels", [])
        there = [name for name in names if (source / LABELS / name).exists()]
        listing = [*(n for n in known if n not in names or n in there)]
        listing += [name for name in there if name not in listing]
        if zarr_format == 3:
            group.attrs["ome"] = {**ome, "labels": listing}
        else:
            group.attrs["labels"] = listing
        if isinstance(staged, Path):
            delete_folder(staged)

    def _move_in_place(
        self, staged: AnyPath, label: str, source: AnyPath, version: Literal[2, 3]
    ) -> list[str]:
        """Move one label and what belongs to it; returns the names of its label images."""
        # Another's label may have the name of fragments that were never ours. They go before the
        # graph that tells them, for this may be interrupted and done again.
        ours = [place_of(part, label) for part in PARTS if part != FRAGMENTS]
        fragments = place_of(FRAGMENTS, label)
        if (staged / fragments).exists() or (source / place_of(GRAPHS, label)).exists():
            ours.insert(0, fragments)
        for place in ours:
            target = source / place
            if (staged / place).exists():
                zarr.open_group(zarr_place(target.parent), mode="a", zarr_format=version)
                self._replace(staged / place, target, f"{source.name}/{place}", "replaced")
            elif target.exists() and not (place.startswith(TABLES) and not is_ours(target)):
                self._keep(target, f"{source.name}/{place}", "replaced")
        if (source / place_of(TABLES, label)).exists():
            list_table(source / place_of(TABLES, label), version)
        return [Path(place).name for place in reversed(ours) if place.startswith(LABELS)]

    def take_back(self, staged: AnyPath, name: str, site: Site | None = None) -> None:
        """Undo `publish`, where a crash came between it and its record.

        In a store nothing is to be undone: all is still staged.
        """
        target = self._folder.image_path(name, site)
        if isinstance(staged, Path) and isinstance(target, Path):
            if site is not None and not staged.exists() and target.exists():
                strike_field(target)
            _take_back(target, staged)

    def take_back_in_place(
        self, staged: AnyPath, label: str, source: AnyPath, parts: Sequence[str]
    ) -> None:
        """Undo `publish_in_place`, but for the listing, which names the label in any case."""
        if not isinstance(staged, Path) or not isinstance(source, Path):
            return
        for part in parts:
            _take_back(source / place_of(part, label), staged / place_of(part, label))

    def _replace(self, staged: AnyPath, target: AnyPath, name: str, plan: str) -> None:
        """Put a staged group in the place of what was there before, which is kept."""
        if isinstance(staged, StorePath) and isinstance(target, StorePath):
            if is_copy(staged, target):  # a crash came between this and its record
                return
            if is_group(target):
                self._keep(target, name, plan)
            delete_folder(target)  # what is no group was never published as a whole
            copy_folder(staged, target)
        elif isinstance(staged, Path) and isinstance(target, Path):
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                self._keep(target, name, plan)
            staged.rename(target)

    def _keep(self, path: AnyPath, name: str, plan: str) -> None:
        stamp = f"{time.strftime('%Y%m%dT%H%M%S')}-{plan[:8]}"
        target = self._folder.hidden / "previous" / stamp / name
        number = 0
        while target.exists():
            number += 1
            target = self._folder.hidden / "previous" / f"{stamp}-{number}" / name
        move_folder(path, target)


def _take_back(target: Path, staged: Path) -> None:
    if not staged.exists() and target.exists():
        staged.parent.mkdir(parents=True, exist_ok=True)
        target.rename(staged)
