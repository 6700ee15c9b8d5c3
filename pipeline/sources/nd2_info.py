"""What the package nd2 says of a file: its loops, channels, sizes and stage positions."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nd2
import numpy as np

from pipeline.errors import ImageError, UnreadableError
from pipeline.image import ImageInfo
from pipeline.sources.channel_names import unique_names
from pipeline.sources.pixel_type import pixel_type
from pipeline.sources.rows import RowLayout
from pipeline.sources.units import micrometres, seconds
from pipeline.storage import is_url
from pipeline.storage.reading import open_file

log = logging.getLogger(__name__)

AXES = {"TimeLoop": "T", "NETimeLoop": "T", "XYPosLoop": "P", "ZStackLoop": "Z"}
COLOURS = ("red", "green", "blue", "alpha")

Place = tuple[float | None, float | None, float | None]


@dataclass(frozen=True, slots=True)
class Nd2Layout:
    """All stage positions of one file.

    Parameters
    ----------
    counts, strides : dict
        Elements of T, P and Z, and frames between neighbours.
    positions : tuple of str
        Their names; "" where the file gives none.
    origins_um : tuple of tuple
        (z, y, x) of the stage at each position.
    rows : RowLayout
        Of a frame; all channels lie in its pixels.
    compressed : bool
    channels : tuple of str
    pixel_size_um, time_step_s
        As in `ImageInfo`.
    """

    counts: dict[str, int]
    strides: dict[str, int]
    positions: tuple[str, ...]
    origins_um: tuple[Place, ...]
    rows: RowLayout
    compressed: bool
    channels: tuple[str, ...]
    pixel_size_um: Place
    time_step_s: float | None

    def describe(self, path: str, position: int) -> ImageInfo:
        """One stage position."""
        count = len(self.channels)
        shape = (self.counts["T"], count, self.counts["Z"], self.rows.height, self.rows.width)
        rows = self.rows.height if self.compressed else 1
        return ImageInfo(
            shape,
            pixel_type(path, self.rows.dtype),
            "".join(a for a, n in zip("tcz", shape, strict=False) if n > 1) + "yx",
            self.channels,
            self.pixel_size_um,
            self.time_step_s,
            (1, count, 1, rows, self.rows.width),
            self.origins_um[position],
            self.compressed,
        )


def read_layout(path: str) -> Nd2Layout:
    """Read the metadata of a file.

    Raises
    ------
    UnreadableError
        They are not understood, or say what is not read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of acquisition times that are not there
            place: Any = open_file(path) if is_url(path) else path
            with nd2.ND2File(place) as file:
                return _read(path, file)
    except ImageError:
        raise
    except Exception as error:  # the package raises whatever its parsers do
        raise UnreadableError(
            path, f"its ND2 metadata are not understood: {type(error).__name__}: {error}"
        ) from error


def _read(path: str, file: nd2.ND2File) -> Nd2Layout:
    attributes, loops = file.attributes, file.experiment
    if attributes.compressionType == "lossy":
        raise UnreadableError(path, "its frames are compressed with loss", "Save it as lossless.")
    counts, strides = _loops(path, loops, attributes.sequenceCount)
    size, width = file.dtype.itemsize, int(attributes.widthPx or 0)
    pixel = attributes.componentCount * size
    row = int(attributes.widthBytes or width * pixel)
    if min(width, attributes.heightPx) < 1 or row < width * pixel:
        raise UnreadableError(path, f"its rows of {width} px have {row} bytes")
    names, places = _positions(file, loops, counts["P"])
    return Nd2Layout(
        counts,
        strides,
        names,
        places,
        RowLayout(attributes.heightPx, width, row, pixel, file.dtype.newbyteorder("<")),
        attributes.compressionType == "lossless",
        _channels(file),
        _pixel_size(file),
        _time_step(loops),
    )


def _loops(path: str, loops: Sequence[Any], frames: int) -> tuple[dict[str, int], dict[str, int]]:
    """Elements of each axis, and frames between neighbours; the innermost loop comes last."""
    counts, strides, step = {"T": 1, "P": 1, "Z": 1}, {"T": 0, "P": 0, "Z": 0}, 1
    for loop in reversed(loops):
        if loop.count < 2:
            continue
        axis = AXES.get(loop.type)
        if axis is None or counts[axis] > 1:
            kinds = ", ".join(f"{other.type} ({other.count})" for other in loops)
            raise UnreadableError(path, f"its loops {kinds} are no times, positions and planes")
        counts[axis], strides[axis] = loop.count, step
        step *= loop.count
    if math.prod(counts.values()) == 1 and frames > 1:
        raise UnreadableError(path, f"holds {frames} frames and does not say what they are")
    return counts, strides


def _metadata(file: nd2.ND2File) -> Sequence[Any]:
    """What is known of the channels; nothing where the package fails: their pixels are whole."""
    try:
        return file.metadata.channels or []
    except Exception as error:
        log.warning("%s: channels and pixel sizes are not understood: %s", file.path, error)
        return []


def _channels(file: nd2.ND2File) -> tuple[str, ...]:
    """Names of all components; one channel of several is in colour."""
    names = [channel.channel.name or "" for channel in _metadata(file)]
    samples, count = file.components_per_channel, file.attributes.componentCount
    if samples in (3, 4):
        colours = COLOURS[:samples]
        several = count > samples
        names = [f"{n} {c}" if several else c for n in names or [""] for c in colours]
    return unique_names(names, count)


def _pixel_size(file: nd2.ND2File) -> Place:
    channels = _metadata(file)
    if not channels:
        return None, None, None
    volume = channels[0].volume
    x, y, z = (
        micrometres(size, "um") if known else None
        for size, known in zip(volume.axesCalibration, volume.axesCalibrated, strict=True)
    )
    return z, y, x


def _time_step(loops: Sequence[Any]) -> float | None:
    for loop in loops:
        if AXES.get(loop.type) != "T" or loop.count < 2:
            continue
        periods = [loop.parameters] if loop.type == "TimeLoop" else loop.parameters.periods
        if len(periods) == 1:
            measured = periods[0].periodDiff.avg or periods[0].periodMs
            return seconds(float(measured), "ms")
    return None


def _positions(
    file: nd2.ND2File, loops: Sequence[Any], count: int
) -> tuple[tuple[str, ...], tuple[Place, ...]]:
    for loop in loops:
        if loop.type == "XYPosLoop" and loop.count == count:
            points = loop.parameters.points
            names = tuple(point.name or "" for point in points)
            return names, tuple(_place(*point.stagePositionUm) for point in points)
    try:
        channels: Any = file.frame_metadata(0)
        return ("",), (_place(*channels.channels[0].position.stagePositionUm),)
    except Exception:  # where the stage was is not needed
        return ("",), ((None, None, None),)


def _place(x: float, y: float, z: float) -> Place:
    found = tuple(float(v) if np.isfinite(v) else None for v in (z, y, x))
    return found[0], found[1], found[2]
