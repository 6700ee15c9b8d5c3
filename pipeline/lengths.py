"""Lengths of a recipe, in px or in um: `radius_px: 3` or `radius_um: 1.5`.

A length in um becomes one in px when the image is known, before anything is planned; no task meets
um. Where voxels are no cubes it becomes one number an axis. Whole numbers of px are rounded half
up, so a radius may be 0 along an axis of thick planes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, TypeAlias, TypeVar

from pydantic import (
    BaseModel,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from pipeline.errors import MethodError
from pipeline.validation import explained

T = TypeVar("T")
N = TypeVar("N", int, float)

#: Sizes that differ by less than this share are one size: files round them.
ALIKE = 1e-3
#: Lost by the division of an area by that of a pixel.
SLACK = 1e-9

#: What becomes of a length in um.
#: along: one number an axis, if voxels are no cubes; steps: the same in whole px;
#: plain, whole, odd: one number, so that voxels must be cubes; finest: in px of the shortest side;
#: least, most: an area or volume in whole px, rounded up or down;
#: lattice: the number in um, beside the voxel's sides as `spacing`.
Kind = Literal[
    "along", "steps", "plain", "whole", "odd", "finest", "finest whole", "least", "most", "lattice"
]


@dataclass(frozen=True, slots=True)
class Frame:
    """The voxels of an image that lengths in um are converted for.

    Parameters
    ----------
    image : str
        Its name, for messages.
    sizes_um : tuple of float or None
        Of a pixel along the frame's axes; None where nobody says.
    """

    image: str
    sizes_um: tuple[float | None, ...]

    def sides(self, key: str) -> tuple[float, ...]:
        """The sizes, all of them.

        Raises
        ------
        MethodError
            If one is not known; `key` is what needs it.
        """
        missing = [a for a, s in zip("zyx"[-len(self.sizes_um) :], self.sizes_um) if s is None]  # noqa: B905
        if missing:
            raise MethodError(
                self.image,
                f"{key} is in um, and nothing says how large a pixel is along {', '.join(missing)}",
                "Say it in the recipe, `source: {pixel_size_um: [0.5, 0.5]}` (z, y, x), or give "
                "lengths in px.",
            )
        return tuple(s for s in self.sizes_um if s is not None)


@dataclass(frozen=True, slots=True)
class Length:
    """A field in px that has a twin in um.

    Parameters
    ----------
    px : str
        Its name.
    kind : str
        What becomes of um, see `Kind`.
    required : bool
        One of the two must be given.
    """

    px: str
    kind: Kind
    required: bool = False

    def resolved(self, um: float, frame: Frame, key: str) -> dict[str, Any]:
        """The fields in px that say the same as `um` for an image."""
        sides = frame.sides(key)
        if self.kind == "lattice":
            return {self.px: um, "spacing": sides}
        if self.kind in ("least", "most"):
            return {self.px: self._area(um, sides, frame, key)}
        if self.kind.startswith("finest"):
            px = um / min(sides)
            return {self.px: _whole(px) if self.kind.endswith("whole") else px}
        along = [um / side for side in sides]
        if self.kind in ("along", "steps"):
            found = along if self.kind == "along" else [_whole(px) for px in along]
            return {self.px: found[0] if len(set(found)) == 1 else tuple(found)}
        if max(sides) > min(sides) * (1 + ALIKE):
            raise MethodError(
                frame.image,
                f"{key} is one length for all axes, and pixels of {_spelled(sides)} um differ",
                "Give it in px.",
            )
        if self.kind == "odd":
            return {self.px: 2 * math.floor(along[0] / 2) + 1}
        return {self.px: along[0] if self.kind == "plain" else _whole(along[0])}

    def _area(self, um: float, sides: Sequence[float], frame: Frame, key: str) -> int:
        """Whole pixels of an area or volume."""
        axes = 2 if key.endswith("um2") else 3
        if len(sides) != axes:
            other = key[:-1] + str(len(sides))
            raise MethodError(
                frame.image,
                f"{key} is {'an area' if axes == 2 else 'a volume'}, and frames have {len(sides)} "
                "axes",
                f"Use {other}, or other source.dims.",
            )
        px = um / math.prod(sides)
        least = self.kind == "least"
        return max(1, math.ceil(px * (1 - SLACK))) if least else math.floor(px * (1 + SLACK))


def _whole(px: float) -> int:
    return math.floor(px + 0.5)


def _spelled(sides: Sequence[float]) -> str:
    return " x ".join(f"{side:g}" for side in sides)


#: Fields in um of a model, and the field in px that each stands for.
Lengths: TypeAlias = Mapping[str, Length]


class InUm(BaseModel):
    """Parameters of which some are lengths, that are given in px or in um."""

    lengths: ClassVar[Lengths] = {}

    @model_validator(mode="after")
    def _one_unit(self) -> Self:
        for um, length in self.lengths.items():
            px = getattr(self, length.px)
            if getattr(self, um) is not None:
                if px is not None and length.px in self.model_fields_set:
                    raise ValueError(f"{length.px} and {um} say the same; give one of them")
            elif length.required and px is None and not self._has_other(length.px):
                raise ValueError(f"give {length.px} or {um}")
        return self

    @model_serializer(mode="wrap")
    def _in_one_unit(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the defaults in px of what is given in um: they would be read as given."""
        found: dict[str, Any] = write(self)
        for um, length in self.lengths.items():
            if getattr(self, um) is not None and length.px not in self.model_fields_set:
                found.pop(length.px, None)
        return found

    def _has_other(self, px: str) -> bool:
        return any(
            length.px == px and getattr(self, um) is not None for um, length in self.lengths.items()
        )

    def in_px(self, frame: Frame, where: str) -> Self:
        """The same with all lengths in px; `where` comes before a field's name in messages.

        Raises
        ------
        MethodError
            If the image does not say how large a pixel is, or a length does not fit it.
        """
        changes: dict[str, Any] = {}
        for um, length in self.lengths.items():
            value = getattr(self, um)
            if value is not None:
                changes |= {**length.resolved(value, frame, f"{where}{um}"), um: None}
        return self.changed(changes, frame, where) if changes else self

    def changed(self, changes: Mapping[str, Any], frame: Frame, where: str) -> Self:
        """The same with other values, which are validated."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        try:
            return type(self).model_validate({**fields, **changes})
        except ValidationError as error:
            item = error.errors()[0]
            item["loc"] = item["loc"][:1]  # behind it are the kinds of values that were tried
            sizes = _spelled([size for size in frame.sizes_um if size is not None])
            raise MethodError(
                frame.image,
                f"{where}{explained(item, 'it').rstrip('.')}, with pixels of {sizes} um",
                "Choose another length.",
            ) from error


def known(length: float | None) -> float:
    """A length in px, which is one by now."""
    (found,) = per_axis(length, 1)
    return found


def per_axis(length: N | tuple[N, ...] | None, ndim: int) -> tuple[N, ...]:
    """A length in px along each axis, whichever way it was given.

    Raises
    ------
    ValueError
        If it is not known yet, because it is in um.
    """
    if length is None:
        raise ValueError("a length in um was not resolved before it was used")
    return length if isinstance(length, tuple) else (length,) * ndim


def in_px(value: T, frame: Frame, where: str = "") -> T:
    """A part of a recipe with all its lengths in px; the same object where none is in um."""
    found: T = _converted(value, frame, where)
    return found


def in_um(value: object) -> bool:
    """Whether a part of a recipe has lengths in um: the size of pixels makes px of them."""
    if isinstance(value, BaseModel):
        parts = {name: getattr(value, name) for name in type(value).model_fields}
        parts.pop("pixel_size_um", None)  # that is the size itself
        given = any(name.endswith("_um") and part is not None for name, part in parts.items())
        return given or any(map(in_um, parts.values()))
    return isinstance(value, tuple) and any(map(in_um, value))


def _converted(value: Any, frame: Frame, where: str) -> Any:
    if isinstance(value, BaseModel):
        parts = {name: getattr(value, name) for name in type(value).model_fields}
        found = {name: _converted(part, frame, f"{where}{name}.") for name, part in parts.items()}
        changes = {name: part for name, part in found.items() if part is not parts[name]}
        changed = value.model_copy(update=changes) if changes else value
        return changed.in_px(frame, where) if isinstance(changed, InUm) else changed
    if type(value) is tuple:
        items = tuple(_converted(part, frame, f"{where}{i}.") for i, part in enumerate(value))
        return items if any(a is not b for a, b in zip(items, value, strict=True)) else value
    return value
