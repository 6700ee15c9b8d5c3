"""Where models lie, and which files belong to one. Needs no torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import ModelError
from pipeline.names import nearest

CARD = "card.yaml"
#: Folders that are searched for names, separated as those of PATH.
VARIABLE = "TILEWRIGHT_MODELS"
#: Files of other programs that a model may be, and the architecture that a card calls them.
SUFFIXES = {".pt": "torchscript", ".pt2": "exported", ".onnx": "onnx", ".zip": "bioimageio"}
#: Descriptions of a bioimage.io package.
DESCRIPTIONS = ("rdf.yaml", "bioimageio.yaml", "model.yaml")
_BLOCK_BYTES = 2**20


def find_model(name_or_path: str, beside: Path | None = None) -> Path:
    """The folder or file of a model.

    Parameters
    ----------
    name_or_path : str
        A path, or the name of a folder below those of the variable TILEWRIGHT_MODELS or below the
        shipped models.
    beside : Path, optional
        The recipe's folder: relative paths are looked for there first, then in the working folder.

    Raises
    ------
    ModelError
        If there is none. It names the places that were looked at.
    """
    given = Path(name_or_path).expanduser()
    for path in [given] if given.is_absolute() or beside is None else [beside / given, given]:
        if is_model(path):
            return path
        if path.exists():
            raise ModelError(
                f"{path}: no model. A model is a folder with {CARD}, a bioimage.io package "
                "(.zip, or a folder with rdf.yaml), or a .onnx, .pt2 or .pt file."
            )
    names: list[str] = []
    for folder in model_folders():
        path = folder / given
        if is_model(path) and path.resolve().is_relative_to(folder.resolve()):
            return path
        names += [found.name for found in _models_in(folder)]
    known = f" Known: {', '.join(sorted(set(names)))}." if names else ""
    raise ModelError(
        f"model {name_or_path!r}: neither a path nor a name{nearest(name_or_path, names)}. "
        f"Names are searched in {', '.join(map(str, model_folders()))}; the variable {VARIABLE} "
        f"adds folders.{known}"
    )


def model_folders() -> list[Path]:
    """Folders whose models go by name: the user's, then the shipped ones."""
    given = [Path(x).expanduser() for x in os.environ.get(VARIABLE, "").split(os.pathsep) if x]
    package = Path(__file__).parents[1]
    installed = [package / "models", package / "configs" / "models"]
    checkout = package.parent / "configs" / "models"
    return [*given, next((folder for folder in installed if folder.is_dir()), checkout)]


def is_model(path: Path) -> bool:
    """Whether a path can be a model: by its name and its files, which may still be wrong."""
    if path.is_dir():
        return (path / CARD).is_file() or description_of(path) is not None
    return path.is_file() and path.suffix in SUFFIXES


def description_of(folder: Path) -> str | None:
    """The file that describes the bioimage.io package in a folder; None if there is none."""
    return next((name for name in DESCRIPTIONS if (folder / name).is_file()), None)


def card_path(path: Path) -> Path:
    """Where the card of a model lies, or would lie."""
    return path / CARD if path.is_dir() else path.with_name(f"{path.name}.{CARD}")


def file_inside(folder: Path, name: str, where: str) -> Path:
    """A file that a card names.

    Raises
    ------
    ModelError
        If it is missing, or lies outside the card's folder: by `..`, an absolute path or a link.
    """
    path = folder / name
    if Path(name).is_absolute() or not path.resolve().is_relative_to(folder.resolve()):
        raise ModelError(
            f"{where}: weights: {name!r} lies outside the model's folder. Copy the file there."
        )
    if not path.is_file():
        raise ModelError(f"{where}: weights: there is no file {name!r} in {folder}.")
    return path


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal; it is read in pieces."""
    state = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                state.update(block)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error}).") from error
    return state.hexdigest()


def wrong_weights(where: Path | str, size: int, found: str, wanted: str) -> ModelError:
    """The error where weights, of `size` bytes and sha256 `found`, are not those of the card."""
    return ModelError(
        f"{where}: the weights are damaged, or those of another model: {size:,} bytes with sha256 "
        f"{found}, and the card says {wanted}. Copy the model again."
    )


def missing_extra(error: ImportError, what: str) -> ModelError:
    """The error where a package of the extra is not installed."""
    return ModelError(
        f"{what} needs {error.name or 'a package'}, which is not installed: "
        "`pip install 'tilewright[nets]'`."
    )


def _models_in(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in sorted(folder.iterdir()) if is_model(path))
