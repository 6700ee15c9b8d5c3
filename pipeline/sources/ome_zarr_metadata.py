"""The metadata of an OME-Zarr image: 0.4 and before in `.zattrs`, 0.5 under "ome"."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.sources.base import os_reason
from pipeline.sources.units import micrometres, seconds

# 0.1 and 0.2 name no axes: they always have these.
OLD_AXES = "tczyx"


class MetadataError(ValueError):
    """The metadata are not those of an OME-Zarr image that can be read."""


@dataclass(frozen=True, slots=True)
class Multiscale:
    """Level 0 of the first multiscale image.

    Parameters
    ----------
    path : str
        The array, relative to the group.
    axes : tuple of str
        Names in the order of the array.
    units : tuple of str
        One an axis; "" where none is given.
    scale : tuple of float
        One an axis, of pixels in units; empty where none is given.
    channels : tuple of str
        Labels of "omero"; may be empty.
    translation : tuple of float
        One an axis, of the first pixel in units; empty where none is given.
    levels : tuple of str
        The arrays of all levels, the finest first.
    """

    path: str
    axes: tuple[str, ...]
    units: tuple[str, ...]
    scale: tuple[float, ...]
    channels: tuple[str, ...]
    translation: tuple[float, ...] = ()
    levels: tuple[str, ...] = ()

    def pixel_size_um(self) -> tuple[float | None, float | None, float | None]:
        """(z, y, x) in micrometres."""
        z, y, x = (micrometres(*self._step(axis)) for axis in "zyx")
        return z, y, x

    def origin_um(self) -> tuple[float | None, float | None, float | None]:
        """Where the first pixel lies, (z, y, x) in micrometres."""
        z, y, x = (self._origin(axis) for axis in "zyx")
        return z, y, x

    def _origin(self, axis: str) -> float | None:
        if axis not in self.axes or not self.translation:
            return None
        at = self.axes.index(axis)
        unit = micrometres(1.0, self.units[at])  # a position may be 0, unlike a size
        return None if unit is None else self.translation[at] * unit

    def time_step_s(self) -> float | None:
        """Seconds between time points."""
        return seconds(*self._step("t"))

    def _step(self, axis: str) -> tuple[float | None, str]:
        if axis not in self.axes or not self.scale:
            return None, ""
        at = self.axes.index(axis)
        return self.scale[at], self.units[at]


def ome_attributes(attributes: Mapping[str, object]) -> Mapping[str, object]:
    """The OME part of a group's attributes, of either version."""
    inner = attributes.get("ome")
    return inner if isinstance(inner, Mapping) else attributes


def read_multiscale(attributes: Mapping[str, object]) -> Multiscale:
    """Parse a group's attributes.

    Raises
    ------
    MetadataError
        There is no multiscale image, an entry is not of the form the specification gives it, or a
        position is no finite number.
    """
    ome = ome_attributes(attributes)
    if "plate" in ome:
        raise MetadataError("is an HCS plate, not one of its fields")
    if "well" in ome:
        raise MetadataError("is a well of an HCS plate, not one of its fields")
    if not ome.get("multiscales"):
        raise MetadataError("is a zarr group without an OME image (no multiscales)")
    try:
        found = _parse(ome)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise MetadataError(
            f"its OME-Zarr metadata are not understood: {in_words(error)}"
        ) from error
    for axis, place in zip("zyx", found.origin_um(), strict=True):
        if place is not None and not math.isfinite(place):
            raise MetadataError(
                f"its translation along {axis} is {place} um, which is no place; correct it"
            )
    return found


def _parse(ome: Mapping[str, object]) -> Multiscale:
    image = _mapping(_sequence(ome["multiscales"])[0])
    levels = [_mapping(level) for level in _sequence(image["datasets"])]
    level = levels[0]
    axes = _sequence(image.get("axes", list(OLD_AXES)))
    names = tuple(str(a["name"] if isinstance(a, Mapping) else a).lower() for a in axes)
    units = tuple(str(a.get("unit", "")) if isinstance(a, Mapping) else "" for a in axes)
    # Those of the level, then those of all levels: the specification multiplies them.
    steps = [
        [float(str(n)) for n in _sequence(_mapping(step)["scale"])]
        for holder in (level, image)
        for step in _sequence(holder.get("coordinateTransformations", []))
        if "scale" in _mapping(step)
    ]
    for numbers in steps:
        if len(numbers) != len(names):
            raise ValueError(f"a scale has {len(numbers)} numbers, and there are {len(names)} axes")
    scale = tuple(math.prod(factors) for factors in zip(*steps, strict=True))
    moved = _translation([level, image], len(names))
    paths = tuple(str(one["path"]) for one in levels)
    return Multiscale(paths[0], names, units, scale, _labels(ome), moved, paths)


def _translation(holders: Sequence[Mapping[str, object]], count: int) -> tuple[float, ...]:
    """Where index 0 comes to lie, when scales and translations follow each other as listed."""
    place, told = [0.0] * count, False
    for holder in holders:
        for item in _sequence(holder.get("coordinateTransformations", [])):
            step = _mapping(item)
            numbers = step.get("translation", step.get("scale"))
            if numbers is None:
                continue
            values = [float(str(n)) for n in _sequence(numbers)]
            if len(values) != count:
                raise ValueError(
                    f"a translation has {len(values)} numbers, and there are {count} axes"
                )
            if "translation" in step:
                place = [a + b for a, b in zip(place, values, strict=True)]
                told = True
            else:
                place = [a * b for a, b in zip(place, values, strict=True)]
    return tuple(place) if told else ()


def in_words(error: Exception) -> str:
    """What is wrong with metadata, of the errors that reading them raises."""
    if isinstance(error, KeyError):
        return f"{error} is missing"
    if isinstance(error, IndexError):
        return "a list that must not be empty is"
    if isinstance(error, RecursionError):
        return "its JSON is nested too deeply"
    return os_reason(error) if isinstance(error, OSError) else str(error)


def _labels(ome: Mapping[str, object]) -> tuple[str, ...]:
    omero = ome.get("omero")
    channels = _sequence(omero.get("channels", [])) if isinstance(omero, Mapping) else []
    return tuple(str(_mapping(c).get("label") or "") for c in channels)


def _sequence(value: object) -> Sequence[object]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"{value!r:.40} is not a list")
    return value


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{value!r:.40} is not an object")
    return value
