"""Finding the weak labels of images, by their names."""

from __future__ import annotations

from pathlib import Path

from pipeline.companions import TABLES
from pipeline.errors import DataError, EmptyArchiveError, MethodError
from pipeline.sources import discover
from pipeline.training.recipe import TrainingRecipe
from pipeline.training.weak.boxes import DrawnBoxes
from pipeline.training.weak.label import WeakLabel
from pipeline.training.weak.scribbles import DrawnLines, PaintedImage
from pipeline.training.weak.tags import read_tags


def find_weak_labels(data: Path, recipe: TrainingRecipe) -> dict[str, WeakLabel]:
    """The weak labels of a folder, by the name of their image.

    Raises
    ------
    DataError
        If they are not where the recipe says.
    """
    section = recipe.data
    kind, place = section.weak
    path = data / place
    if kind == "tags":
        if not path.is_file():
            raise DataError(f"{path}: there is no such table of tags; the recipe names it.")
        try:
            return dict(read_tags(path))
        except MethodError as error:
            raise DataError(str(error)) from error
    if not path.is_dir():
        raise DataError(
            f"{data}: there is no folder {place!r}. Make it, or name another in `data.{kind}`."
        )
    drawn = DrawnBoxes if kind == "boxes" else DrawnLines
    found: dict[str, WeakLabel] = {}
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() in TABLES:
            name = file.relative_to(path).with_suffix("").as_posix()
            if name in found:
                raise DataError(f"{path}: {name} is there with several suffixes. Keep one of them.")
            found[name] = drawn(file)
    if kind == "scribbles":
        found |= _painted(path, found)
    return found


def _painted(path: Path, lines: dict[str, WeakLabel]) -> dict[str, WeakLabel]:
    try:
        images = {spec.name: spec for spec in discover(path)}
    except EmptyArchiveError:
        return {}
    if twice := sorted(images.keys() & lines.keys()):
        raise DataError(f"{path}: {twice[0]} is there with several suffixes. Keep one of them.")
    return {name: PaintedImage(spec) for name, spec in images.items()}
