"""Which folders the service reads from and writes to."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from flows.service.settings import Settings
from pipeline.companions import companion_path
from pipeline.errors import EmptyArchiveError, RecipeError
from pipeline.flat_field.filter import FlatField
from pipeline.labels_recipe import AnyRecipe
from pipeline.sources import discover
from pipeline.storage import AnyPath, StorePath, is_inside, path_of


def allowed_archive(path: AnyPath, settings: Settings) -> AnyPath:
    """An archive that runs may read, links resolved.

    Raises
    ------
    RecipeError
        If it, or a link in it, leads out of all `archives`.
    """
    return _readable(path, settings.archives, "archive", "archives")


def allowed_input(path: AnyPath, settings: Settings) -> AnyPath:
    """What a comparison may read: archives, and outputs of runs; links resolved.

    Raises
    ------
    RecipeError
        If it, or a link in it, leads out of all `archives` and `outputs`.
    """
    roots = (*settings.archives, *settings.outputs)
    return _readable(path, roots, "folder", "archives and outputs")


def allowed_output(path: AnyPath, settings: Settings) -> AnyPath:
    """A folder that runs may write to, links resolved; need not exist yet.

    Raises
    ------
    RecipeError
        If it lies outside of all `outputs`.
    """
    return _within(path, settings.outputs, "output folder", "outputs")


def allowed_recipe(recipe: AnyRecipe, archive: AnyPath, settings: Settings) -> AnyRecipe:
    """A recipe that names no files but those that runs may read.

    Raises
    ------
    RecipeError
        If files beside the images, or profiles of a flat field, lie outside.
    """
    if patterns := recipe.companion_patterns():
        with suppress(EmptyArchiveError):  # which the run says
            for spec in discover(archive):
                for pattern in patterns:
                    beside, what = companion_path(pattern, spec), f"file {pattern} of the recipe"
                    _readable(beside, settings.archives, what, "archives")
    roots = (*settings.archives, *settings.outputs, *filter(None, [settings.recipes]))
    for step in (step for part in recipe.parts for step in part.preprocess):
        for file in step.files() if isinstance(step, FlatField) else ():
            _readable(path_of(file.path), roots, "profile", "archives, outputs and recipes")
    return recipe


def on_disk(place: AnyPath, what: str) -> Path:
    """A place for what reads or writes folders on disk only.

    Raises
    ------
    RecipeError
        It lies in a store.
    """
    if isinstance(place, StorePath):
        raise RecipeError(f"{place}: the {what} must be a folder on disk; copy it there.")
    return place


def _readable(path: AnyPath, roots: Sequence[AnyPath], what: str, field: str) -> AnyPath:
    """A place that is allowed with all links in it, which are resolved."""
    found = _within(path, roots, what, field)
    for link in _links(found):
        _within(link, roots, f"{path}: the link {link}", field)
    return found


def _within(path: AnyPath, roots: Sequence[AnyPath], what: str, field: str) -> AnyPath:
    if isinstance(path, Path) and not path.is_absolute():
        raise RecipeError(
            f"{path}: the {what} must be an absolute path, such as one in "
            f"{_listed(roots)}: the service runs in a folder of its own."
        )
    # Of all links, so that no link leads out. Addresses hold no "..": see `StorePath.of`.
    found = path.resolve()
    if not any(is_inside(found, root.resolve()) for root in roots):
        led = "" if found == path else f" (that is {found})"
        raise RecipeError(
            f"{path}{led}: the {what} is outside of the service's {field}: {_listed(roots)}. "
            "Choose a folder there, or add one to the configuration and restart."
        )
    return found


def _links(folder: AnyPath) -> Iterator[Path]:
    """Links anywhere in a folder that lead out of it; what cannot be listed is not read either."""
    if isinstance(folder, StorePath):
        return  # stores have none
    pending = [folder]
    while pending:
        # In OME-Zarr there may be a million files: those that are no links are not looked at.
        with suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if not entry.is_symlink():
                    pending += [Path(entry.path)] if entry.is_dir() else []
                # Path.resolve raises for links in a circle.
                elif not Path(os.path.realpath(entry)).is_relative_to(folder):
                    yield Path(entry.path)


def _listed(roots: Sequence[AnyPath]) -> str:
    return ", ".join(map(str, roots)) or "(none is set)"
