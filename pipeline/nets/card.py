"""The card of a model: what it takes, what it gives, where it comes from.

This file needs no torch: a recipe is planned, and refused, without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, ValidationError, field_validator, model_validator

from pipeline.errors import MethodError, ModelError
from pipeline.nets.architectures import DETECTORS
from pipeline.nets.heads import (
    AnyHead,
    BorderHead,
    ClassesHead,
    DistanceHead,
    FlowHead,
    ObjectsHead,
)
from pipeline.nets.normalisation import AnyNormalisation, Fixed, MeanStd, Percentiles, Range
from pipeline.nets.parts import Part
from pipeline.validation import all_wrong, explained, unknown_key

#: Architectures that stand for a file of another program.
FOREIGN = ("torchscript", "exported", "onnx", "bioimageio")
#: Sections that a card chooses by a word.
_CHOICES: dict[str, type[Part]] = {
    "classes": ClassesHead,
    "border": BorderHead,
    "distance": DistanceHead,
    "flow": FlowHead,
    "objects": ObjectsHead,
    "percentiles": Percentiles,
    "mean_std": MeanStd,
    "range": Range,
    "fixed": Fixed,
}

Count = Annotated[int, Field(ge=0)]
Size = Annotated[float, Field(gt=0)]


class ModelCard(Part):
    """A model's card.

    Parameters
    ----------
    format : 1
        Of the card.
    name, description : str
    architecture : str
        One of `pipeline.nets.architectures`, or "torchscript", "exported", "onnx", "bioimageio" for
        a file that holds its own.
    arguments : dict
        For `build`, beside the numbers of channels.
    ndim : int
        2 for planes, 3 for volumes.
    channels : tuple of str
        Names of the input channels, in their order.
    heads : tuple
        What the output channels mean, in their order; of a detector the one head `objects`.
    normalisation : Normalisation
    pixel_size_um : float, tuple of float (one an axis), or None
        That it was trained on.
    object_px : (low, high), or None
        Diameters in px of the objects that it was trained on.
    weights : str
        A file in the card's folder.
    sha256 : str or None
        Of that file. A model without it is not loaded.
    licence : str or None
        SPDX id.
    training_data, cite, device : str or None
    authors : tuple of str
    scores : dict
        What was measured, by name.
    seconds : float or None
        Of training.
    halo_px, stride_px : tuple of int (one an axis), or None
        What a pixel looks at, and the multiples that a window's sides must be. Measured; ONNX
        files, which cannot be traced, must state them.
    bytes_per_px : float or None
        Memory of a pass, in bytes a pixel of the window; measured.
    """

    format: Literal[1]
    name: str = Field(min_length=1)
    description: str = ""
    architecture: str = Field(min_length=1)
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    ndim: Literal[2, 3]
    channels: tuple[str, ...] = Field(min_length=1)
    heads: tuple[AnyHead, ...]
    normalisation: AnyNormalisation
    pixel_size_um: Size | tuple[Size, ...] | None = None
    object_px: tuple[Size, Size] | None = None
    weights: str = Field(min_length=1)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    licence: str | None = None
    training_data: str | None = None
    authors: tuple[str, ...] = ()
    cite: str | None = None
    scores: dict[str, float] = Field(default_factory=dict)
    device: str | None = None
    seconds: float | None = Field(default=None, ge=0)
    halo_px: tuple[Count, ...] | None = None
    stride_px: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    bytes_per_px: Size | None = None

    @field_validator("heads")
    @classmethod
    def _one_of_each(cls, heads: tuple[AnyHead, ...]) -> tuple[AnyHead, ...]:
        if not heads:
            raise ValueError("there is none; name one, for example {head: border}")
        kinds = [head.head for head in heads]
        if twice := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
            raise ValueError(f"there are several heads {twice[0]!r}; one of a kind is read")
        return heads

    @model_validator(mode="after")
    def _fits(self) -> ModelCard:
        for key in ("halo_px", "stride_px", "pixel_size_um"):
            value = getattr(self, key)
            if isinstance(value, tuple) and len(value) != self.ndim:
                raise ValueError(f"{key}: {len(value)} numbers, and the model has {self.ndim} axes")
        if self.object_px is not None and self.object_px[0] > self.object_px[1]:
            low, high = self.object_px
            raise ValueError(f"object_px: {low:g} to {high:g}; the smaller number comes first")
        self._check_detector()
        if isinstance(self.normalisation, Fixed):
            given = len(self.normalisation.mean)
            if given != len(self.channels):
                raise ValueError(
                    f"normalisation: mean and std of {given} channels, and the model has "
                    f"{len(self.channels)}"
                )
        if self.architecture == "onnx":
            for key in ("halo_px", "stride_px"):
                if getattr(self, key) is None:
                    raise ValueError(
                        f"{key}: missing. The layers of an ONNX file cannot be traced: state it, "
                        f"for example `{key}: [{', '.join(['16'] * self.ndim)}]`"
                    )
        return self

    def _check_detector(self) -> None:
        kinds = [head.head for head in self.heads]
        if self.is_detector and (kinds != ["objects"] or self.ndim != 2):
            raise ValueError(
                f"architecture {self.architecture} finds objects in planes: it needs `ndim: 2` and "
                f"the one head `objects`, and has {self.ndim} and {', '.join(kinds)}"
            )
        if "objects" in kinds and not self.is_detector:
            raise ValueError(
                f"heads: `objects` is for {', '.join(DETECTORS)}; {self.architecture} tells "
                "something of pixels, such as `classes` or `border`"
            )

    @property
    def is_detector(self) -> bool:
        """Whether it finds objects, and tells nothing of pixels."""
        return self.architecture in DETECTORS

    @property
    def object_names(self) -> tuple[str, ...]:
        """Kinds of objects that a detector finds, from class 1 on."""
        return next((h.names for h in self.heads if isinstance(h, ObjectsHead)), ())

    @property
    def network_classes(self) -> int:
        """What `build` calls classes: output channels, or the background and kinds of objects."""
        return 1 + len(self.object_names) if self.is_detector else self.output_channels

    @property
    def output_channels(self) -> int:
        """Channels that the network gives: those of all heads."""
        return sum(head.channel_count(self.ndim) for head in self.heads)

    def head_slices(self) -> dict[str, slice]:
        """Output channels of each head, by its kind."""
        found: dict[str, slice] = {}
        first = 0
        for head in self.heads:
            last = first + head.channel_count(self.ndim)
            found[head.head] = slice(first, last)
            first = last
        return found


def check_channels(card: ModelCard, channels: int, image: str) -> None:
    """Raise MethodError if an image does not have as many channels as the model takes."""
    if channels != len(card.channels):
        plural = "s" * (channels != 1)
        raise MethodError(
            image,
            f"{channels} selected channel{plural}, and the model {card.name!r} takes "
            f"{len(card.channels)} ({', '.join(card.channels)})",
            "Choose them with `source.channels`, in this order.",
        )


def parse_card(content: dict[str, Any], where: str) -> ModelCard:
    """Validate a card's content; `where` names it in messages.

    Raises
    ------
    ModelError
        With every key that is wrong, its value and what would be valid.
    """
    try:
        return ModelCard.model_validate(content)
    except ValidationError as error:
        raise ModelError(all_wrong(error, where, _explain)) from error


def _explain(item: Any) -> str:
    """One validation error as a line: key, what is wrong, what would be right."""
    if item["type"] == "extra_forbidden":
        location = [str(part) for part in item["loc"]]
        return unknown_key(location, _valid_keys(location[:-1]))
    return explained(item, "card")


def _valid_keys(location: Sequence[str]) -> list[str]:
    """Keys of the section at `location`, whose kind is its last word."""
    section = _CHOICES[location[-1]] if location else ModelCard
    return sorted(section.model_fields)
