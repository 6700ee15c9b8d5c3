"""Models on disk: reading their cards, opening and writing them.

A model is a folder with `card.yaml` and its weights, a bioimage.io package, or the file of another
program with a card beside it. Reading a card needs no torch; opening a model does.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash
import yaml

from pipeline.errors import ModelError
from pipeline.nets.card import FOREIGN, ModelCard, parse_card
from pipeline.nets.places import (
    CARD,
    SUFFIXES,
    card_path,
    description_of,
    file_inside,
    file_sha256,
    find_model,
    missing_extra,
    wrong_weights,
)
from pipeline.nets.plain_yaml import read_yaml

if TYPE_CHECKING:
    from torch import nn

__all__ = ["find_model", "load_module", "model_digest", "read_card", "write_model"]

WEIGHTS = "weights.safetensors"


def read_card(path: Path) -> ModelCard:
    """The card of a model, as `find_model` gives it.

    A bioimage.io package has one without any: what its description says; keys of a card beside it
    come first. The file of another program has `FILE.card.yaml` beside it.

    Raises
    ------
    ModelError
        If there is none, or it is wrong.
    """
    where = card_path(path)
    package = package_of(path)
    if not where.is_file() and package is None:
        raise ModelError(
            f"{path}: there is no card {where.name!r}, which says what goes in and out. "
            f"`tilewright model {path}` shows what to write."
        )
    content = read_yaml(where) if where.is_file() else {}
    if path.is_file():
        content = {"architecture": SUFFIXES[path.suffix], "weights": path.name, **content}
        if content["weights"] != path.name:
            raise ModelError(
                f"{where}: weights: {content['weights']!r}, and it is the card of {path.name!r}."
            )
    if package is None:
        return parse_card(content, str(where))
    return parse_card(_package_card(package, content), str(where if content else package))


def package_of(path: Path) -> Path | None:
    """The bioimage.io package (zip or folder) that a model is or names; None if there is none."""
    if path.is_file():
        return path if SUFFIXES[path.suffix] == "bioimageio" else None
    if not (path / CARD).is_file():
        return path
    content = read_yaml(path / CARD)
    if content.get("architecture") != "bioimageio":
        return None
    weights = content.get("weights", description_of(path))
    if not isinstance(weights, str):
        raise ModelError(f"{path / CARD}: weights: missing; name the package, a .zip or rdf.yaml.")
    found = file_inside(path, weights, str(path / CARD))
    return found if found.suffix == ".zip" else path


def weights_path(path: Path, card: ModelCard) -> Path:
    """The file that `card.weights` names and `card.sha256` is of."""
    return file_inside(path if path.is_dir() else path.parent, card.weights, str(card_path(path)))


def model_digest(path: Path) -> str:
    """Identity of a model: of its card and its weights, read in pieces.

    Of a bioimage.io folder, of its description and of the weights in it.
    """
    card = read_card(path)
    # A key that came later counts where it is given: models without it keep their identity.
    later = {"object_px"} if card.object_px is None else None
    state = xxhash.xxh3_128(card.model_dump_json(exclude=later).encode())
    state.update(file_sha256(weights_path(path, card)).encode())
    package = package_of(path)
    if package is not None and package.is_dir():
        name = _package(package).weights().file
        state.update(file_sha256(file_inside(package, name, str(package))).encode())
    return str(state.hexdigest())


def check_weights(path: Path) -> None:
    """Raise ModelError if the weights of a network of ours are not those of its card."""
    card = read_card(path)
    file = weights_path(path, card)
    found = file_sha256(file)
    if card.sha256 is not None and found != card.sha256:
        raise wrong_weights(file, file.stat().st_size, found, card.sha256)


def load_module(path: Path, threads: int = 1) -> nn.Module:
    """Open a model: a module in eval mode, on the CPU, in float32.

    The weights are compared with their sha256 before they are read. No code of a file runs but
    TorchScript and exported graphs, see `pipeline.nets.torchscript` and `pipeline.nets.exported`.

    Parameters
    ----------
    path : Path
        As `find_model` gives it.
    threads : int
        Of onnxruntime; torch's are the process's own.

    Returns
    -------
    nn.Module
        Takes (N, C, \\*S), gives (N, K, \\*S): C channels, K `ModelCard.output_channels`.

    Raises
    ------
    ModelError
        If the card, the weights or the architecture are wrong, or do not belong together.
    """
    card = read_card(path)
    where = str(card_path(path))
    if card.sha256 is None:
        found = file_sha256(weights_path(path, card))
        raise ModelError(
            f"{where}: sha256: missing; weights are checked before they are read. If they are "
            f"those that you mean, add `sha256: {found}`."
        )
    try:
        from pipeline.nets.opening import open_weights, probe  # noqa: PLC0415
        from pipeline.nets.weights import check_sha256, read_checked  # noqa: PLC0415
    except ImportError as error:
        raise missing_extra(error, f"{path}: a model") from error
    data = read_checked(weights_path(path, card), card.sha256)
    kind, arguments, origin = card.architecture, card.arguments, str(weights_path(path, card))
    package = package_of(path)
    if package is not None:
        chosen = _package(package).weights()
        kind, arguments = chosen.kind, dict(chosen.arguments)
        data = _package(package).read(chosen.file)
        origin = f"{package}: {chosen.file}"
        if chosen.sha256 is not None:
            check_sha256(data, str(chosen.sha256), origin)
    module = open_weights(kind, arguments, data, card, origin, threads)
    if card.architecture in FOREIGN:
        probe(module, card, origin)
    return module


def write_model(folder: Path, module: nn.Module, card: ModelCard) -> ModelCard:
    """Write a model of ours as a folder, all or nothing.

    Parameters
    ----------
    folder : Path
        Must not exist.
    module : nn.Module
        Of `card.architecture` with `card.arguments`.
    card : ModelCard
        `weights`, `sha256`, `halo_px` and `stride_px` are filled in.

    Returns
    -------
    ModelCard
        As it was written.

    Raises
    ------
    ModelError
        If the folder exists or cannot be written, the architecture is not ours, or what was
        written cannot be opened again.
    """
    if card.architecture in FOREIGN:
        raise ModelError(f"{folder}: architecture {card.architecture!r} is written by others.")
    if folder.exists():
        raise ModelError(f"{folder}: exists already. Choose another folder, or remove it.")
    try:
        from pipeline.nets.opening import measured, save_tensors  # noqa: PLC0415
    except ImportError as error:
        raise missing_extra(error, f"{folder}: a model") from error
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.partial")
    try:
        temporary.mkdir(parents=True)
        save_tensors(module, temporary / WEIGHTS)
        facts = {"weights": WEIGHTS, "sha256": file_sha256(temporary / WEIGHTS)}
        card = card.model_copy(update={**facts, **measured(module, card)})
        content = card.model_dump(mode="json", exclude_none=True)
        for head, given in zip(content["heads"], card.heads, strict=True):
            if given.head == "classes":
                head["background"] = given.background  # null must be stated
        (temporary / CARD).write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
        load_module(temporary)
        temporary.rename(folder)
    except OSError as error:
        raise ModelError(f"{folder}: the model cannot be written ({error}).") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return card


def _package(path: Path) -> Any:
    try:
        from pipeline.nets.bioimageio_package import Package  # noqa: PLC0415
    except ImportError as error:
        raise missing_extra(error, f"{path}: a bioimage.io package") from error
    return Package(path)


def _package_card(path: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a package says and the user's card, with the digest of the package's own file."""
    package = _package(path)
    from pipeline.nets.bioimageio_card import card_content  # noqa: PLC0415

    content = card_content(package, given)
    file = path / (description_of(path) or "") if path.is_dir() else path
    content.setdefault("weights", file.name)
    content.setdefault("sha256", file_sha256(file))
    return content
