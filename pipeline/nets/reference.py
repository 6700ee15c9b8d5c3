"""A model as a recipe names it: a folder, and the digest of what is in it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeAlias

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, SerializationInfo

from pipeline.errors import TilewrightError
from pipeline.nets.card import ModelCard
from pipeline.nets.model_folder import find_model, model_digest, read_card


class ModelReference(NamedTuple):
    """A model that was found.

    Parameters
    ----------
    path : str
        Absolute.
    digest : str
        Of its card and weights.
    zoom : float
        How large it sees an image, see `pipeline.nets.zoom`; a recipe states it beside the model.
    """

    path: str
    digest: str
    zoom: float = 1.0

    def at(self, zoom: float) -> ModelReference:
        """The same model, seeing images at a zoom."""
        return self._replace(zoom=zoom)

    @property
    def card(self) -> ModelCard:
        """Its card, read once a process."""
        return _card(self.at(1.0))


@functools.lru_cache(maxsize=64)
def _card(reference: ModelReference) -> ModelCard:
    return read_card(Path(reference.path))


def _find(given: Any) -> Any:
    if isinstance(given, ModelReference):
        return given
    if not isinstance(given, str):
        # a ValueError, for pydantic
        raise ValueError(  # noqa: TRY004
            "a model is named by a text: a shipped model's name, or a path"
        )
    try:
        path = find_model(given).absolute()
        return ModelReference(str(path), model_digest(path))
    except TilewrightError as error:
        raise ValueError(str(error).rstrip(".")) from error


def _of_pixels(reference: ModelReference) -> ModelReference:
    card = reference.card
    if card.is_detector:
        raise ValueError(
            f"the model {card.name!r} ({card.architecture}) finds objects and tells nothing of "
            f"pixels; use it by `method: {card.architecture}`"
        )
    return reference


def _of_objects(reference: ModelReference) -> ModelReference:
    card = reference.card
    if not card.is_detector:
        raise ValueError(
            f"the model {card.name!r} ({card.architecture}) tells something of pixels and finds no "
            "objects; use it by `method: network`"
        )
    return reference


def _shown(reference: ModelReference, info: SerializationInfo) -> str:
    # What a model holds decides labels, not where it lies.
    return reference.digest if is_identity(info) else reference.path


def is_identity(info: SerializationInfo) -> bool:
    """Whether what decides labels is written, see `Recipe.identity`."""
    return isinstance(info.context, dict) and bool(info.context.get("identity", False))


#: In a recipe: the name of a shipped model, or a path.
AnyModel: TypeAlias = Annotated[
    ModelReference,
    BeforeValidator(_find, json_schema_input_type=str),
    PlainSerializer(_shown, return_type=str),
]
#: One that tells something of every pixel, and one that finds objects.
PixelModel: TypeAlias = Annotated[AnyModel, AfterValidator(_of_pixels)]
DetectorModel: TypeAlias = Annotated[AnyModel, AfterValidator(_of_objects)]
