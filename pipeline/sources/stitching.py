"""Putting parts together: every part is opened once, compared with the others, and placed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.errors import UnreadableError
from pipeline.image import AXES, ImageInfo
from pipeline.sources.base import SourceSpec, open_source, source_class
from pipeline.sources.parts import Five, Layout, Part

#: A stitched image of more pixels than this many times those of its fields: a position is wrong, or
#: in another unit than it says, or the fields are not those of one well.
MOST_EMPTY = 100
#: Pixel sizes of one microscope differ by rounding only.
SIZE_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class _Looked:
    """A part that was opened once."""

    part: Part
    spec: SourceSpec
    info: ImageInfo

    @property
    def path(self) -> str:
        return self.spec.path

    @property
    def channels(self) -> tuple[str, ...]:
        return self.part.channels or self.info.channels


def put_together(spec: SourceSpec) -> SourceSpec:
    """Open every part of a spec once, and say where each lies and how large it is.

    Parts that have parts themselves are resolved into theirs.

    Raises
    ------
    UnreadableError
        A part cannot be opened, or parts differ in what one image has only once: type, pixel size,
        channels, sizes; or it is not known where they lie. Names the files.
    """
    looked = [_look(part) for part in spec.parts]
    if not looked:
        raise UnreadableError(spec.path, "is made of no parts")
    for one in looked[1:]:
        _require_alike(looked[0], one)
    _require_channels(looked)
    offsets = [one.part.offset for one in looked]
    if spec.layout is not None:
        offsets = _laid_out(spec, spec.layout, looked)
    parts = [leaf for one, at in zip(looked, offsets, strict=True) for leaf in _leaves(one, at)]
    return replace(spec, reader="composed", series="", parts=tuple(parts), layout=None)


def _look(part: Part) -> _Looked:
    if part.spec.fault:
        raise UnreadableError(part.spec.path, part.spec.fault)
    images = source_class(part.spec).list_images(part.spec) if not part.spec.series else [part.spec]
    if not images:
        raise UnreadableError(
            part.spec.path,
            "belongs to an OME-TIFF of several files, which is read from another of them",
            "List all but that one under source.files.ignore, or leave out source.files.",
        )
    if len(images) != 1:
        raise UnreadableError(
            part.spec.path,
            f"holds {len(images)} images, and a file that is part of an image must hold one",
            "Leave it out by source.files.ignore, or split it.",
        )
    with open_source(images[0]) as source:
        looked = _Looked(part, images[0], source.info)
    sizes = dict(zip(AXES, looked.info.shape, strict=True))
    for axis in part.along:
        if sizes[axis] != 1:
            raise UnreadableError(
                part.spec.path,
                f"holds {sizes[axis]} {_PLURAL[axis]}, but its name stands for one of them",
                f"Leave {{{_GROUP[axis]}}} out of source.files, or convert the file to grey.",
            )
    return looked


_PLURAL = {"t": "time points", "c": "channels", "z": "planes"}
_GROUP = {"t": "t", "c": "channel", "z": "z"}


def _require_alike(first: _Looked, other: _Looked) -> None:
    a, b = first.info, other.info
    if a.dtype != b.dtype:
        _refuse(first, other, "type of pixels", a.dtype, b.dtype)
    for axis, one, two in zip("zyx", a.pixel_size_um, b.pixel_size_um, strict=True):
        alike = (
            one is two
            if one is None or two is None
            else math.isclose(one, two, rel_tol=SIZE_TOLERANCE)
        )
        if not alike:
            _refuse(first, other, f"pixel size along {axis}", f"{one} um", f"{two} um")
    if other.part.along and a.shape != b.shape:
        _refuse(first, other, "size (T, C, Z, Y, X)", a.shape, b.shape)


def _refuse(first: _Looked, other: _Looked, what: str, one: object, two: object) -> None:
    raise UnreadableError(
        other.path,
        f"its {what} is {two}, but {one} in {first.path}, and both are parts of one image",
        "Convert them alike, or take them apart.",
    )


def _require_channels(looked: Sequence[_Looked]) -> None:
    """A channel has one name, and a name one channel."""
    names: dict[int, tuple[str, _Looked]] = {}
    for one in looked:
        for number, name in enumerate(one.channels, start=one.part.offset[1]):
            known, owner = names.setdefault(number, (name, one))
            if known != name:
                _refuse(owner, one, f"name of channel {number}", repr(known), repr(name))


def _leaves(one: _Looked, at: Five) -> list[Part]:
    if not one.spec.parts:
        info = one.info
        return [Part(one.spec, at, info.shape, one.channels, one.part.along, info.origin_um)]
    return [
        replace(inner, offset=_added(at, inner.offset), channels=inner.channels)
        for inner in one.spec.parts
    ]


def _added(a: Five, b: Five) -> Five:
    t, c, z, y, x = (m + n for m, n in zip(a, b, strict=True))
    return t, c, z, y, x


def _laid_out(spec: SourceSpec, layout: Layout, looked: Sequence[_Looked]) -> list[Five]:
    """Offsets of the fields of a well in the plane; focus positions are not looked at."""
    for one in looked[1:]:
        if one.info.shape[:3] != looked[0].info.shape[:3]:
            _refuse(looked[0], one, "(T, C, Z)", looked[0].info.shape[:3], one.info.shape[:3])
    if len(looked) == 1:
        return [(0, 0, 0, 0, 0)]
    places = None if layout.columns else _on_stage(spec, layout, looked)
    if places is None:
        places = _on_grid(spec, layout, looked)
    _require_apart(spec, looked, places)
    return [(0, 0, 0, y, x) for y, x in places]


def _on_stage(
    spec: SourceSpec, layout: Layout, looked: Sequence[_Looked]
) -> list[tuple[int, int]] | None:
    """By stage positions, to the nearest pixel; None where no field, or none apart, has any."""
    origins = [one.info.origin_um[1:] for one in looked]
    silent = [one for one, origin in zip(looked, origins, strict=True) if None in origin]
    if len(silent) == len(looked) or len(set(origins)) == 1:
        return None
    if silent:
        raise UnreadableError(
            silent[0].path,
            "does not say in a unit of length where it lies on the stage; others of its well do",
            "Say how they lie (source.grid), take them apart (source.fields: apart), or leave this "
            "one out.",
        )
    columns = []
    for k, direction in ((0, layout.y), (1, layout.x)):
        size = looked[0].info.pixel_size_um[1 + k]
        if size is None:
            raise UnreadableError(
                looked[0].path,
                "says where it lies on the stage, but not how large its pixels are",
                "Take the fields apart (source.fields: apart).",
            )
        ways = [direction * float(origin[k] or 0.0) for origin in origins]
        columns.append([(way - min(ways)) / size for way in ways])
    _require_near(spec, looked, columns)
    rounded = [[math.floor(way + 0.5) for way in column] for column in columns]
    return list(zip(*rounded, strict=True))


def _require_near(
    spec: SourceSpec, looked: Sequence[_Looked], places: Sequence[Sequence[float]]
) -> None:
    """Refuse fields so far apart that they make no image; `places` are (ys, xs) in px.

    Before anything is rounded: a position may be any number, also none.
    """
    sizes = [one.info.shape[-2:] for one in looked]
    area = float(sum(y * x for y, x in sizes))
    height, width = (
        max(way + size[k] for way, size in zip(ways, sizes, strict=True))
        for k, ways in enumerate(places)
    )
    if math.isfinite(height + width) and height * width <= MOST_EMPTY * area:
        return
    far = looked[max(range(len(looked)), key=lambda i: _strayed(looked, i))]
    y, x = (float(at or 0.0) for at in far.info.origin_um[1:])
    raise UnreadableError(
        far.path,
        f"lies at y {y:g} um, x {x:g} um on the stage, far from other fields of {spec.name}, which "
        f"would be {width:.6g} x {height:.6g} px, more than {MOST_EMPTY} times its fields: this "
        "position is wrong or in another unit than it says, or not all are fields of one well",
        "Correct it, say how fields lie (source.grid), or take them apart (source.fields: apart).",
    )


def _strayed(looked: Sequence[_Looked], number: int) -> float:
    """How far a field lies from the middle one, in um; what is no number lies farthest."""
    far = 0.0
    for k in (1, 2):
        ways = [float(one.info.origin_um[k] or 0.0) for one in looked]
        apart = abs(ways[number] - statistics.median_low(ways))
        far = max(far, apart if math.isfinite(ways[number]) else math.inf)
    return far


def _on_grid(spec: SourceSpec, layout: Layout, looked: Sequence[_Looked]) -> list[tuple[int, int]]:
    if not layout.columns:
        raise UnreadableError(
            looked[0].path,
            f"{spec.name} cannot be stitched: its fields do not say where they lie on the stage",
            "Tell it by source.grid, for example `grid: {columns: 2}`, or take them apart.",
        )
    height, width = looked[0].info.shape[-2:]
    for one in looked[1:]:
        if one.info.shape[-2:] != (height, width):
            _refuse(looked[0], one, "size (Y, X)", (height, width), one.info.shape[-2:])
    if layout.overlap_px >= min(height, width):
        raise UnreadableError(
            looked[0].path,
            f"is {width} x {height} px, and source.grid.overlap_px is {layout.overlap_px}",
            "Fields overlap by less than their size.",
        )
    places = []
    for cell in layout.cells or range(len(looked)):
        row, column = divmod(cell, layout.columns)
        if layout.snake and row % 2:
            column = layout.columns - 1 - column
        places.append((row * (height - layout.overlap_px), column * (width - layout.overlap_px)))
    top, left = (min(place[k] for place in places) for k in (0, 1))
    return [(y - top, x - left) for y, x in places]


def _require_apart(
    spec: SourceSpec, looked: Sequence[_Looked], places: Sequence[tuple[int, int]]
) -> None:
    seen: dict[tuple[int, int], _Looked] = {}
    for one, place in zip(looked, places, strict=True):
        other = seen.setdefault(place, one)
        if other is not one:
            raise UnreadableError(
                one.path,
                f"lies at the same place as {other.path}, and both are fields of {spec.name}",
                "Take the fields apart (source.fields: apart).",
            )
