"""Tags: which classes an image shows, or a part of it. One table for all images.

Columns `image`, the path of the image without its suffix, and `classes`, their names with commas
or semicolons between them (where those are not between columns); nothing where background alone is
shown. With `y_start`, `x_start`, `y_stop` and `x_stop` (px; 3 to 10 are the pixels 3 to 9) a row
speaks of a part of the image, and an image may have many rows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.annotations.csv_table import CsvTable
from pipeline.annotations.shape_files import EDGES
from pipeline.box import Box
from pipeline.errors import MethodError
from pipeline.training.recipe import TrainingRecipe
from pipeline.training.weak.label import UNTOLD, Learned, Region, Seen, WeakLabel, WrongData

COLUMNS = ("image", "classes")


@dataclass(frozen=True, slots=True)
class TagRow:
    """One row of the table.

    Parameters
    ----------
    classes : tuple of str
    box : Box or None
        Part of the image; None is all of it.
    line : int
        Of the table, for messages.
    """

    classes: tuple[str, ...]
    box: Box | None
    line: int


@dataclass(frozen=True, slots=True)
class Tags(WeakLabel):
    """What is said of an image."""

    rows: tuple[TagRow, ...]

    def learn(self, seen: Seen, recipe: TrainingRecipe) -> Learned:
        if seen.shape[0] > 1:
            raise WrongData("tags", f"has {seen.shape[0]} frames, and a tag is of one")
        return Learned(regions=tuple(_region(row, seen, recipe) for row in self.rows))


def _region(row: TagRow, seen: Seen, recipe: TrainingRecipe) -> Region:
    head = recipe.class_head()
    known = [name for name in head.names if name != head.background]
    if unknown := [name for name in row.classes if name not in known]:
        raise WrongData("range", f"line {row.line}: {unknown[0]!r} is none of {', '.join(known)}")
    whole = Box.whole(seen.shape[1:])
    box = row.box or whole
    if box.ndim != whole.ndim or not box.size or box.intersect(whole) != box:
        sides = " x ".join(map(str, whole.shape))
        raise WrongData("drawn", f"line {row.line}: no part of an image of {sides} px")
    if any(n > side for n, side in zip(box.shape, recipe.patch_sides, strict=True)):
        sides, patch = (" x ".join(map(str, x)) for x in (box.shape, recipe.patch_sides))
        raise WrongData(
            "tags",
            f"line {row.line} is of {sides} px, and a patch has {patch}: a tag is not true of a "
            "part of what it is of",
        )
    tags = np.array([name in row.classes for name in head.names], np.int8)
    assert head.background_index is not None  # the recipe was checked
    tags[head.background_index] = UNTOLD
    return Region(box, tags)


def read_tags(path: Path) -> dict[str, Tags]:
    """All tags of a table, by image.

    Raises
    ------
    MethodError
        If it is no such table.
    """
    table = CsvTable.read(str(path), path.name)
    table.require(COLUMNS)
    parts = any(name in table.columns for name in EDGES)
    if parts:
        table.require(EDGES)
    found: dict[str, dict[Box | None, TagRow]] = {}
    for number, row in enumerate(table.rows):
        box = None
        if parts:
            y0, x0, y1, x1 = (round(table.number(number, name)) for name in EDGES)
            box = Box((y0, x0), (y1, x1))
        rows = found.setdefault(row["image"], {})
        if box in rows:
            raise MethodError(
                path.name,
                f"lines {rows[box].line} and {number + 2} are of the same part of {row['image']!r}",
                "Give all classes of it in one line, as first;second.",
            )
        classes = (part.strip() for part in re.split("[;,]", row["classes"]))
        rows[box] = TagRow(tuple(filter(None, classes)), box, number + 2)
    return {image: Tags(tuple(rows.values())) for image, rows in found.items()}
