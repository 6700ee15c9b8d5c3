"""Images of a run with their outlines, on one picture that can be asked for while it runs."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any

from pipeline.label_rows import label_rows, labelled_name
from pipeline.manifest import ImageRow, Manifest
from pipeline.report.summary import evenly
from pipeline.report.views import make_views
from pipeline.report.wording import escaped, plural, whole

log = logging.getLogger(__name__)

PICTURED = 12
COLUMNS = 4
#: Sides of a picture's place, and height of the line below it, in px.
PLACE, LINE, GAP = 240, 22, 8


def contact_sheet(manifest: Manifest, recipe: dict[str, Any]) -> str:
    """Draw images of the published ones, evenly chosen.

    Parameters
    ----------
    manifest : Manifest
        Its images must be where they were published.
    recipe : dict
        As in run.json.

    Returns
    -------
    str
        An SVG file that needs no other.
    """
    published = manifest.counts().get("published", 0)
    images = list(_chosen(manifest, published))
    rows = [one for row in images for one in label_rows(row)]
    columns = max(1, min(COLUMNS, len(rows)))
    width = columns * (PLACE + GAP) + GAP
    height = math.ceil(len(rows) / columns) * (PLACE + LINE + GAP) + LINE + GAP
    heading = f"{whole(len(images))} of {plural(published, 'published image')}, evenly chosen"
    places = "".join(_place(row, recipe, i % columns, i // columns) for i, row in enumerate(rows))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="{GAP}" y="{LINE - 5}" fill="#333">{heading}</text>{places}</svg>'
    )


def _chosen(manifest: Manifest, published: int) -> Iterator[ImageRow]:
    numbers = evenly(published, PICTURED)
    rows = (row for row in manifest.images() if row.status == "published")
    return (row for number, row in enumerate(rows) if number in numbers)


def _place(row: ImageRow, recipe: dict[str, Any], column: int, line: int) -> str:
    """One picture; of a large image its densest part, which is the one to judge it by."""
    left = GAP + column * (PLACE + GAP)
    top = LINE + GAP + line * (PLACE + LINE + GAP)
    try:
        views = make_views(row, recipe)
        view = views.crop or views.overview
    except Exception as error:  # one picture must not cost the others
        log.warning("contact sheet: no picture of %s: %s", row.name, error)
        view = None
    shown = (
        f'<rect x="{left}" y="{top}" width="{PLACE}" height="{PLACE}" fill="#ddd"/>'
        if view is None
        else f'<image x="{left}" y="{top}" width="{PLACE}" height="{PLACE}" '
        f'href="{view.thumbnail.uri}"/>'
    )
    objects = "" if row.details.get("classes") else _count(row)
    words = escaped(f"{_short(labelled_name(row))}{objects}")
    return f'{shown}<text x="{left}" y="{top + PLACE + 14}" fill="#333">{words}</text>'


def _count(row: ImageRow) -> str:
    return f": {plural(int(row.details['objects']), 'object')}"


def _short(name: str, most: int = 30) -> str:
    return name if len(name) <= most else f"…{name[1 - most :]}"
