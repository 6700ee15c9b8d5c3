"""The images of a run: which there are, and the folders that may be served of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import zarr

from pipeline.errors import TilewrightError, ViewError
from pipeline.manifest import ImageRow, Manifest
from pipeline.report.files import Written, files_of
from pipeline.report.planes import picture_spec
from pipeline.run_folder import CSV, RunFolder
from pipeline.sources.ome_zarr_metadata import read_multiscale
from pipeline.storage import AnyPath, is_inside, path_of
from pipeline.storage.folders import is_group
from pipeline.storage.zarr_store import zarr_place

#: What a recipe says of the source if it says nothing, and no run.json tells.
PLAIN_RECIPE: dict[str, Any] = {"source": {"missing_chunks": "error"}}


@dataclass(frozen=True, slots=True)
class Places:
    """Folders of one published image.

    Parameters
    ----------
    results : Path or StorePath
        The OME-Zarr that holds the labels, with all links followed.
    image : Path, StorePath or None
        The OME-Zarr that holds the pixels: the same, or the source; None where there is none.
    """

    results: AnyPath
    image: AnyPath | None


class RunImages:
    """The images on record when the command began, by number.

    Parameters
    ----------
    folder : RunFolder
    manifest : Manifest
        Open for reading as long as this is used.

    Raises
    ------
    ViewError
        Nothing is published.
    """

    def __init__(self, folder: RunFolder, manifest: Manifest) -> None:
        self._folder = folder
        self._manifest = manifest
        self._places: dict[int, Places] = {}
        self.record = folder.read_run()
        self.recipe: dict[str, Any] = self.record.get("recipe", PLAIN_RECIPE)
        self.csv = str(folder.objects_csv) if manifest.get(CSV) is not None else ""
        self.names = [row.name for row in manifest.images()]
        if not manifest.counts().get("published"):
            raise ViewError(
                f"{folder.root}: no image is published yet, so there is nothing to see. "
                f"`tilewright status {folder.root}` says how far the run is and what failed."
            )

    def row(self, number: int) -> ImageRow | None:
        """What is on record of an image, with the place where its results are now."""
        if not 0 <= number < len(self.names):
            return None
        row = self._manifest.image(self.names[number])
        if row is None or row.status != "published" or row.details["output"] == "in_place":
            return row
        # The whole output folder may have been moved or copied since.
        location = str(self._folder.published_path(row))
        return replace(row, details={**row.details, "location": location})

    def rows(self, first: int, count: int) -> Iterator[tuple[int, ImageRow]]:
        """Some images and their numbers."""
        for number in range(first, min(first + count, len(self.names))):
            row = self.row(number)
            if row is not None:
                yield number, row

    def files(self, row: ImageRow) -> tuple[Written, ...]:
        """Outlines and tables of an image, as `row` has it."""
        return files_of(self._folder, row)

    def places(self, number: int) -> Places | None:
        """The folders of a published image; None if it is none, or is not there any more."""
        found = self._places.get(number) or self._find(number)
        if found is not None:
            self._places[number] = found
        return found

    def _find(self, number: int) -> Places | None:
        row = self.row(number)
        if row is None or row.status != "published":
            return None
        try:
            results = path_of(row.details["location"]).resolve(strict=True)
            images = self._folder.images.resolve()
        except (FileNotFoundError, TilewrightError):
            return None
        # Records may come from others, and must not open any folder of the reader's.
        in_place = row.details["output"] == "in_place"
        if not (_is_image(results) if in_place else is_inside(results, images)):
            return None
        if not is_group(results):
            return None
        return Places(results, self._image(row, results))

    def _image(self, row: ImageRow, results: AnyPath) -> AnyPath | None:
        if row.details["output"] != "none":
            return results
        try:
            spec = picture_spec(row, self.missing_chunks)
            path = (path_of(spec.path) / spec.series).resolve(strict=True)
        except (TilewrightError, OSError):
            return None
        return path if spec.reader == "ome_zarr" and _is_image(path) else None

    @property
    def missing_chunks(self) -> str:
        """As in the recipe."""
        return str(self.recipe["source"]["missing_chunks"])


def _is_image(folder: AnyPath) -> bool:
    try:
        group = zarr.open_group(zarr_place(folder), mode="r", use_consolidated=False)
        read_multiscale(dict(group.attrs))
    except Exception:  # zarr raises its own, and those of JSON
        return False
    return True


def file_inside(folder: AnyPath, path: str) -> AnyPath | None:
    """A file in a folder; None where there is none, or where it lies outside in truth.

    Whether an object is there is seen when it is read.

    Parameters
    ----------
    folder : Path or StorePath
        With all links followed.
    path : str
        As a request has it: anything.
    """
    try:
        found = (folder / path).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):  # a name with a null byte, a circle of links
        return None
    return found if is_inside(found, folder) else None
