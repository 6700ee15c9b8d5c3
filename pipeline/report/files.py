"""Outlines and tables that were written for an image, as the report and the viewer name them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from pipeline.label_rows import label_rows, table_label
from pipeline.manifest import ImageRow
from pipeline.output import OUTLINES, TABLES, place_of
from pipeline.run_folder import RunFolder
from pipeline.storage import AnyPath, is_inside


@dataclass(frozen=True, slots=True)
class Written:
    """A file, or a folder of an OME-Zarr.

    Parameters
    ----------
    what : str
        Such as "outlines", of several labels with the label.
    place : str
        From the output folder; the whole path of what lies outside.
    link : str
        URL from the report, which lies in the output folder; empty for folders.
    """

    what: str
    place: str
    link: str


def files_of(folder: RunFolder, row: ImageRow) -> tuple[Written, ...]:
    """What was written of the objects of an image beside labels and the table of all objects."""
    found: list[Written] = []
    for one in label_rows(row):
        label, files = table_label(one), one.details.get("files") or {}
        named = f" of {label}" if label else ""
        if OUTLINES in files:
            place = _place(folder.outlines_path(row.name, label), folder)
            # Names of files need not be Unicode.
            link = quote(place, errors="surrogateescape")
            found.append(Written(f"outlines{named}", place, link))
        if TABLES in files:
            group = folder.published_path(row) / place_of(TABLES, str(one.details["label"]))
            found.append(Written(f"AnnData{named}", _place(group, folder), ""))
    return tuple(found)


def _place(path: AnyPath, folder: RunFolder) -> str:
    if not is_inside(path, folder.root):
        return str(path)
    return str(path).removeprefix(str(folder.root)).lstrip("/")
