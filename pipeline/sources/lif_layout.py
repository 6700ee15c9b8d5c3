"""Where the pixels of a Leica image lie in its block of bytes, and what they measure.

Every dimension has its own step in bytes, and every channel its first byte: Leica's XML says both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np

from pipeline.sources.units import micrometres, seconds

X, Y, Z, T, EMISSION, EXCITATION, MOSAIC = 1, 2, 3, 4, 5, 9, 10
WAVES = (EMISSION, EXCITATION)
NAMES = {6: "rotation", 7: "slices of time", 8: "slices of time", 11: "loop"}
COLOURS = {1: "red", 2: "green", 3: "blue"}
DESCRIPTION = "./Data/Image/ImageDescription"


class LayoutError(ValueError):
    """The dimensions cannot be seen as TCZYX."""


@dataclass(frozen=True, slots=True)
class _Dimension:
    count: int
    step: int
    origin: float
    length: float
    unit: str

    @property
    def spacing(self) -> float | None:
        """Between neighbours: `length` is from the first to the last."""
        return abs(self.length) / (self.count - 1) if self.count > 1 else None


@dataclass(frozen=True, slots=True)
class _Channel:
    dtype: str
    start: int
    tag: int
    name: str


@dataclass(frozen=True, slots=True)
class LifLayout:
    """One image.

    Parameters
    ----------
    shape : tuple of int
        (T, C, Z, Y, X) in px.
    axes : str
    dtype : dtype
    channels : tuple of str
        Names; may be empty or alike.
    channel_bytes : tuple of (int, int)
        Of each channel: first byte of its first plane, and byte in the pixel.
    interleaved : int
        Channels that lie side by side in a pixel.
    positions : int
        Stage positions.
    position_bytes, time_bytes, depth_bytes, row_bytes, pixel_bytes : int
        From one to the next.
    end_bytes : int
        First byte behind the last pixel.
    pixel_size_um, time_step_s, origins_um
        As in `ImageInfo`; one origin a stage position, or none.
    """

    shape: tuple[int, int, int, int, int]
    axes: str
    dtype: np.dtype
    channels: tuple[str, ...]
    channel_bytes: tuple[tuple[int, int], ...]
    interleaved: int
    positions: int
    position_bytes: int
    time_bytes: int
    depth_bytes: int
    row_bytes: int
    pixel_bytes: int
    end_bytes: int
    pixel_size_um: tuple[float | None, float | None, float | None]
    time_step_s: float | None
    origins_um: tuple[tuple[float | None, float | None, float | None], ...]


def lay_out(element: Element) -> LifLayout:
    """Read the dimensions and channels of an image's XML.

    Raises
    ------
    LayoutError
        A dimension or a pixel type is not read, or the XML lacks what is needed.
    """
    try:
        return _lay_out(element)
    except (KeyError, ValueError) as error:
        if isinstance(error, LayoutError):
            raise
        raise LayoutError(f"its XML is not understood: {error}") from error


def _lay_out(element: Element) -> LifLayout:
    dims, channels = _dimensions(element), _channels(element)
    one = _Dimension(1, 0, 0.0, 0.0, "")
    x, y, z, t, mosaic = (dims.get(key, one) for key in (X, Y, Z, T, MOSAIC))
    dtype = np.dtype(channels[0].dtype)
    samples = [c for c in channels if c.start < x.step]
    interleaved = len(samples) if len(samples) > 1 else 1
    last_sample = max((c.start for c in samples), default=0) if interleaved > 1 else 0
    if last_sample + dtype.itemsize > x.step:
        raise LayoutError(
            f"its pixels are {x.step} bytes apart, and {dtype.name} at byte {last_sample} of each "
            "does not fit"
        )
    places, names = [], []
    for channel in channels:
        plane, sample = (0, channel.start) if interleaved > 1 else (channel.start, 0)
        for wave, offset in _waves(dims):
            places.append((plane + offset, sample))
            names.append(" ".join(part for part in (channel.name, wave) if part))
    shape = (t.count, len(places), z.count, y.count, x.count)
    far = [(d.count - 1) * d.step for key, d in dims.items() if key not in WAVES]
    last = max(plane + sample for plane, sample in places)
    return LifLayout(
        shape,
        "".join(a for a, n in zip("tcz", shape, strict=False) if n > 1) + "yx",
        dtype,
        tuple(names),
        tuple(places),
        interleaved,
        mosaic.count,
        mosaic.step,
        t.step,
        z.step,
        y.step,
        x.step,
        sum(far) + last + dtype.itemsize,
        (
            micrometres(z.spacing, z.unit),
            micrometres(y.spacing, y.unit),
            micrometres(x.spacing, x.unit),
        ),
        seconds(t.spacing, t.unit or "s"),
        _origins(element, mosaic.count),
    )


def _dimensions(element: Element) -> dict[int, _Dimension]:
    found: dict[int, _Dimension] = {}
    for item in element.findall(f"{DESCRIPTION}/Dimensions/DimensionDescription"):
        key, count = int(item.attrib["DimID"]), int(item.attrib["NumberOfElements"])
        if key not in (X, Y, Z, T, MOSAIC, *WAVES) and count > 1:
            name = NAMES.get(key, f"number {key}")
            raise LayoutError(f"its dimension {name} of size {count} is not read")
        if key in found and count > 1:
            raise LayoutError(f"its dimension {key} appears twice")
        if count < 1 or int(item.get("BitInc", "0")):
            raise LayoutError(f"its dimension {key} has {count} elements, or parts of bytes")
        step = int(item.attrib["BytesInc"])
        if step < (1 if count > 1 or key in (X, Y) else 0):
            raise LayoutError(f"its dimension {key} has steps of {step} bytes")
        length, origin = float(item.get("Length", "0")), float(item.get("Origin", "0"))
        unit = item.get("Unit", "")
        found[key] = _Dimension(count, step, origin, length, unit)
    if X not in found or Y not in found:
        raise LayoutError("it has no x or no y: scans of lines are not read")
    return found


def _channels(element: Element) -> list[_Channel]:
    found: list[_Channel] = []
    for item in element.findall(f"{DESCRIPTION}/Channels/ChannelDescription"):
        kind, bits = int(item.attrib["DataType"]), int(item.attrib["Resolution"])
        size = next((n for n in (8, 16, 32, 64) if bits <= n), 0)
        if not size or (kind == 1 and size == 8) or kind not in (0, 1):
            raise LayoutError(f"its pixels of {bits} bits, kind {kind}, are not read")
        tag = int(item.get("ChannelTag", "0"))
        keys = {
            p.findtext("Key", ""): p.findtext("Value", "") for p in item.iter("ChannelProperty")
        }
        name = str(keys.get("DyeName") or COLOURS.get(tag) or item.get("LUTName", ""))
        dtype, start = f"<{'uf'[kind]}{size // 8}", int(item.get("BytesInc", "0"))
        if start < 0:
            raise LayoutError(f"its channel {len(found)} begins at byte {start}")
        found.append(_Channel(dtype, start, tag, name))
    if not found:
        raise LayoutError("it has no channels")
    if len({channel.dtype for channel in found}) > 1:
        kinds = ", ".join(sorted({np.dtype(channel.dtype).name for channel in found}))
        raise LayoutError(f"its channels are of different types: {kinds}")
    if [channel.tag for channel in found] == [3, 2, 1]:
        found.reverse()  # red comes first everywhere else
    return found


def _waves(dims: dict[int, _Dimension]) -> list[tuple[str, int]]:
    """Steps of a wavelength: its name, and where it lies behind the first one."""
    steps = [("", 0)]
    for key in WAVES:
        if key not in dims or dims[key].count == 1:
            continue
        dim = dims[key]
        spacing = dim.length / (dim.count - 1)
        names = [f"{(dim.origin + i * spacing) * 1e9:.0f} nm" for i in range(dim.count)]
        steps = [
            (f"{before} {name}".strip(), offset + i * dim.step)
            for before, offset in steps
            for i, name in enumerate(names)
        ]
    return steps


def _origins(
    element: Element, positions: int
) -> tuple[tuple[float | None, float | None, float | None], ...]:
    """Where the stage was at each position, in um; () where the file does not say."""
    tiles = element.findall('./Data/Image/Attachment[@Name="TileScanInfo"]/Tile')
    places = [tuple(float(tile.get(f"Pos{a}", "nan")) * 1e6 for a in "ZYX") for tile in tiles]
    if len(places) != positions or not all(map(math.isfinite, sum(places, ()))):
        return ()
    return tuple((z, y, x) for z, y, x in places)
