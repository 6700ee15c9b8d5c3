"""Heads: what the output channels of a network mean."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.nets.parts import Part

Byte = Annotated[int, Field(ge=0, le=255)]
Name = Annotated[str, Field(min_length=1)]


def all_different(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of classes, none of which may occur twice."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"class {twice[0]!r} is named twice")
    return names


class ClassesHead(Part):
    """One channel a class, in the order of `names`.

    Parameters
    ----------
    names : tuple of str
        All classes, the background among them; at most 255.
    background : str or None
        Which of them is the background; null says that none is. It must be stated.
    things : tuple of str
        Classes whose objects are told apart (panoptic); the others are stuff.
    colors : tuple of (red, green, blue), or None
        One a class, 0..255.
    activation : str
        What makes probabilities of the channels: "softmax" over them, "sigmoid" of each by itself,
        or "none": they are probabilities already.
    """

    head: Literal["classes"]
    names: tuple[Name, ...] = Field(min_length=2, max_length=255)
    background: str | None
    things: tuple[str, ...] = ()
    colors: tuple[tuple[Byte, Byte, Byte], ...] | None = None
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"

    @field_validator("names")
    @classmethod
    def _differ(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return all_different(names)

    @model_validator(mode="after")
    def _known(self) -> ClassesHead:
        known = ", ".join(self.names)
        if self.background is not None and self.background not in self.names:
            raise ValueError(
                f"background: {self.background!r} is none of the classes ({known}); "
                "`background: null` says that there is none"
            )
        for thing in self.things:
            if thing not in self.names or thing == self.background:
                raise ValueError(f"things: {thing!r} is no class of objects ({known})")
        if self.colors is not None and len(self.colors) != len(self.names):
            raise ValueError(f"colors: {len(self.colors)} for {len(self.names)} classes")
        return self

    @property
    def background_index(self) -> int | None:
        """Which of the classes is the background, from 0."""
        return None if self.background is None else self.names.index(self.background)

    def channel_count(self, ndim: int) -> int:
        """Number of output channels."""
        return len(self.names)


class BorderHead(Part):
    """Three channels: background, the inside of objects, and their border.

    `activation`: "softmax" over the three, or "none" where they are probabilities already.
    """

    head: Literal["border"]
    activation: Literal["softmax", "none"] = "softmax"

    def channel_count(self, ndim: int) -> int:
        """Number of output channels."""
        return 3


class DistanceHead(Part):
    """One channel: the distance of a pixel to the edge of its object, 0 outside.

    `unit`: "px", or "normalised" where the largest distance of each object is 1. `activation`:
    "sigmoid" where the channel is the logit of a normalised distance.
    """

    head: Literal["distance"]
    unit: Literal["px", "normalised"] = "px"
    activation: Literal["sigmoid", "none"] = "none"

    @model_validator(mode="after")
    def _bounded(self) -> DistanceHead:
        if self.activation == "sigmoid" and self.unit == "px":
            raise ValueError(
                "activation: a sigmoid gives 0..1, which is `unit: normalised`, not px"
            )
        return self

    def channel_count(self, ndim: int) -> int:
        """Number of output channels."""
        return 1


class FlowHead(Part):
    """One channel an axis, in the order z, y, x: unit vectors to the middle of the object."""

    head: Literal["flow"]

    def channel_count(self, ndim: int) -> int:
        """Number of output channels."""
        return ndim


class ObjectsHead(Part):
    """No channels: a detector's whole objects, each of a kind.

    `names`: of the kinds of objects, in the order of the network's classes, which count from 1.
    """

    head: Literal["objects"]
    names: tuple[Name, ...] = Field(min_length=1, max_length=65535)

    @field_validator("names")
    @classmethod
    def _differ(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return all_different(names)

    def channel_count(self, ndim: int) -> int:
        """Number of output channels."""
        return 0


Head = ClassesHead | BorderHead | DistanceHead | FlowHead | ObjectsHead
AnyHead = Annotated[Head, Field(discriminator="head")]
