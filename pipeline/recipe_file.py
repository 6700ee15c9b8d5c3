"""Recipes as files: found by a path or by the name of a shipped one, and read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from pipeline.errors import RecipeError
from pipeline.names import nearest
from pipeline.storage import AnyPath, path_of

SUFFIXES = {".yaml", ".yml"}


def recipes_folder() -> Path:
    """Where the shipped recipes lie: in the package, or beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def find_file(name_or_path: str, folder: Path, names: Sequence[str], what: str) -> AnyPath:
    """The file behind a path or an address, or behind the name of a shipped recipe.

    Parameters
    ----------
    name_or_path : str
    folder : Path
        Of the shipped ones.
    names : sequence of str
        Of the shipped ones, for messages.
    what : str
        What is looked for, such as "recipe".

    Raises
    ------
    RecipeError
        If there is none, or the store does not answer.
    """
    path = path_of(name_or_path)
    try:
        if path.is_file():
            return path
    except OSError as error:
        raise RecipeError(f"{path}: the {what} cannot be read ({error}).") from error
    if path.suffix in SUFFIXES:
        raise RecipeError(f"{path}: there is no such recipe file.")
    shipped = folder / f"{name_or_path}.yaml"
    if shipped.is_file():
        return shipped
    raise RecipeError(
        f"{what} {name_or_path!r}: neither a file nor a shipped {what}"
        f"{nearest(name_or_path, names)}. Shipped: {', '.join(names)}."
    )


def find_recipe(name_or_path: str) -> AnyPath:
    """The file behind a path, an address or a name such as "nuclei" or "methods/threshold"."""
    return find_file(name_or_path, recipes_folder(), shipped_recipes(), "recipe")


def shipped_recipes() -> list[str]:
    """Names of the shipped recipes."""
    folder = recipes_folder()
    names = (path.relative_to(folder).with_suffix("") for path in folder.rglob("*.yaml"))
    other = {"models", "training"}
    return sorted(name.as_posix() for name in names if name.parts[0] not in other)


def read_file(path: AnyPath) -> object:
    """The content of a YAML file.

    Raises
    ------
    RecipeError
        If it cannot be read, or is no YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: the recipe cannot be read ({error}).") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not valid YAML: {' '.join(str(error).split())}.") from error
