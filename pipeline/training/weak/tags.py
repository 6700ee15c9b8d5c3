"""Tags: which classes an image shows. One table for all: columns `image` and `classes`.

`image` is the path of the image without its suffix, `classes` the names of the classes, with
commas or semicolons between them (where those are not between columns); nothing where it shows
background alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.annotations.csv_table import CsvTable
from pipeline.errors import MethodError
from pipeline.training.recipe import TrainingRecipe
from pipeline.training.targets import UNKNOWN
from pipeline.training.weak.label import UNTOLD, Learned, Seen, WeakLabel, WrongData

COLUMNS = ("image", "classes")


@dataclass(frozen=True, slots=True)
class Tags(WeakLabel):
    """What is said of an image.

    Parameters
    ----------
    classes : tuple of str
    line : int
        Of the table, for messages.
    """

    classes: tuple[str, ...]
    line: int

    def learn(self, seen: Seen, recipe: TrainingRecipe) -> Learned:
        head = recipe.class_head()
        known = [name for name in head.names if name != head.background]
        if unknown := [name for name in self.classes if name not in known]:
            raise WrongData(
                "range", f"line {self.line}: {unknown[0]!r} is none of {', '.join(known)}"
            )
        if seen.shape[0] > 1:
            raise WrongData("tags", f"has {seen.shape[0]} frames, and a tag is of one")
        if any(n > side for n, side in zip(seen.shape[1:], recipe.patch_sides, strict=True)):
            sides, patch = (" x ".join(map(str, x)) for x in (seen.shape[1:], recipe.patch_sides))
            raise WrongData(
                "tags",
                f"is {sides} px, and a patch {patch}: a tag is true of a whole image only",
            )
        tags = np.array([name in self.classes for name in head.names], np.int8)
        assert head.background is not None  # the recipe was checked
        background = head.names.index(head.background)
        tags[background] = UNTOLD
        # Where there is nothing else, every pixel is known.
        value = UNKNOWN if self.classes else background
        return Learned(classes=np.full(seen.shape, value, np.int16), tags=tags)


def read_tags(path: Path) -> dict[str, Tags]:
    """All tags of a table, by image.

    Raises
    ------
    MethodError
        If it is no such table.
    """
    table = CsvTable.read(str(path), path.name)
    table.require(COLUMNS)
    found: dict[str, Tags] = {}
    for line, row in enumerate(table.rows, 2):
        name = row["image"]
        if name in found:
            raise MethodError(
                path.name,
                f"lines {found[name].line} and {line} are both of {name!r}",
                "Give all classes of an image in one line, as first;second.",
            )
        classes = (part.strip() for part in re.split("[;,]", row["classes"]))
        found[name] = Tags(tuple(filter(None, classes)), line)
    return found
