"""Which folders the service reads from and writes to."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from flows.service.settings import Settings
from pipeline.errors import RecipeError


def allowed_archive(path: Path, settings: Settings) -> Path:
    """An archive that runs may read, links resolved.

    Raises
    ------
    RecipeError
        If it, or a link in it, leads out of all `archives`.
    """
    found = _within(path, settings.archives, "archive", "archives")
    for link in _links(found):
        _within(link, settings.archives, f"{path}: the link {link}", "archives")
    return found


def allowed_input(path: Path, settings: Settings) -> Path:
    """What a comparison may read: archives, and outputs of runs; links resolved.

    Raises
    ------
    RecipeError
        If it, or a link in it, leads out of all `archives` and `outputs`.
    """
    roots, fields = (*settings.archives, *settings.outputs), "archives and outputs"
    found = _within(path, roots, "folder", fields)
    for link in _links(found):
        _within(link, roots, f"{path}: the link {link}", fields)
    return found


def allowed_output(path: Path, settings: Settings) -> Path:
    """A folder that runs may write to, links resolved; need not exist yet.

    Raises
    ------
    RecipeError
        If it lies outside of all `outputs`.
    """
    return _within(path, settings.outputs, "output folder", "outputs")


def _within(path: Path, roots: Sequence[Path], what: str, field: str) -> Path:
    if not path.is_absolute():
        raise RecipeError(
            f"{path}: the {what} must be an absolute path, such as one in "
            f"{_listed(roots)}: the service runs in a folder of its own."
        )
    # Of all links, so that no link leads out.
    found = path.resolve()
    if not any(found.is_relative_to(root.resolve()) for root in roots):
        led = "" if found == path else f" (that is {found})"
        raise RecipeError(
            f"{path}{led}: the {what} is outside of the service's {field}: {_listed(roots)}. "
            "Choose a folder there, or add one to the configuration and restart."
        )
    return found


def _links(folder: Path) -> Iterator[Path]:
    """Links anywhere in a folder that lead out of it; what cannot be listed is not read either."""
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


def _listed(roots: Sequence[Path]) -> str:
    return ", ".join(map(str, roots)) or "(none is set)"
