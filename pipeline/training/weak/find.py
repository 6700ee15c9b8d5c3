"""Finding the weak labels of images, by their names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.companions import TABLES
from pipeline.errors import DataError, MethodError
from pipeline.sources import SourceSpec
from pipeline.sources.names import split_suffix
from pipeline.training.recipe import TrainingRecipe
from pipeline.training.weak.boxes import DrawnBoxes
from pipeline.training.weak.label import Drawn, WeakLabel
from pipeline.training.weak.scribbles import DrawnLines, PaintedImage
from pipeline.training.weak.tags import read_tags

#: What follows the image's name in that of a second file, of lines that mark background.
BACKGROUND = ".background"


def find_weak_labels(
    data: Path, recipe: TrainingRecipe, painted: dict[str, SourceSpec]
) -> dict[str, WeakLabel]:
    """The weak labels of a folder, by the name of their image.

    Parameters
    ----------
    data : Path
    recipe : TrainingRecipe
    painted : dict
        Images of the folder of scribbles, by name.

    Raises
    ------
    DataError
        If they are not where the recipe says.
    """
    kind, place = recipe.data.weak
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
    found: dict[str, WeakLabel] = {}
    files = {}
    for name, file in _tables(path):
        if name in files or name in painted:
            raise DataError(f"{path}: {name} is there with several suffixes. Keep one of them.")
        files[name] = file
    for name, file in files.items():
        if not (name.endswith(BACKGROUND) and name.removesuffix(BACKGROUND) in files):
            drawn = Drawn(file, files.get(name + BACKGROUND))
            found[name] = DrawnBoxes(drawn) if kind == "boxes" else DrawnLines(drawn)
    return found | {name: PaintedImage(spec) for name, spec in painted.items()}


def _tables(folder: Path) -> Iterator[tuple[str, Path]]:
    """Tables and GeoJSON files, by the name of their image: its path without suffixes."""
    for file in sorted(folder.rglob("*")):
        inner = file.relative_to(folder)
        hidden = any(part.startswith(".") for part in inner.parts)
        # Metadata of OME-Zarr images are no drawings.
        inside = any(part.lower().endswith(".zarr") for part in inner.parts[:-1])
        if file.suffix.lower() in TABLES and file.is_file() and not (hidden or inside):
            yield split_suffix(inner.with_suffix("").as_posix())[0], file
