"""Writes Zeiss CZI files: what pylibCZIrw does not write, such as JPEG XR and mosaic numbers."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

import imagecodecs
import numpy as np

KINDS = {("uint8", 1): 0, ("uint16", 1): 1, ("float32", 1): 2, ("uint8", 3): 3, ("uint16", 3): 4}
CODECS = {"none": 0, "jpeg": 1, "lzw": 2, "jpegxr": 4, "zstd": 5, "zstd1": 6, "zstd1-hilo": 6}


@dataclass
class Tile:
    """One sub-block.

    Parameters
    ----------
    pixels : ndarray of shape (Y, X, S)
        Red, green, blue for three samples.
    y, x : int
        Of its first pixel in the file's plane.
    mosaic : int or None
    places : dict of str to int
        Along T, C, Z, S, V, ...
    codec : str
    shrunk : int
        More than 1 for a pyramid's level: the tile stands for that many times as many pixels.
    """

    pixels: np.ndarray
    y: int = 0
    x: int = 0
    mosaic: int | None = None
    places: dict[str, int] = field(default_factory=dict)
    codec: str = "none"
    shrunk: int = 1


def encoded(tile: Tile) -> bytes:
    """The pixels as they are stored: colours as blue, green, red."""
    pixels = tile.pixels
    stored = np.ascontiguousarray(pixels[..., ::-1] if pixels.shape[2] == 3 else pixels)
    if tile.codec in ("none", "lzw"):
        return stored.tobytes()
    if tile.codec == "jpeg":
        return bytes(imagecodecs.jpeg8_encode(pixels.squeeze(), level=95))
    if tile.codec == "jpegxr":
        return bytes(imagecodecs.jpegxr_encode(pixels.squeeze(), level=1.0))
    raw, head = stored.tobytes(), {"zstd": b"", "zstd1": b"\x01"}.get(tile.codec, b"\x03\x01\x01")
    if tile.codec == "zstd1-hilo":
        raw = np.frombuffer(raw, np.uint8).reshape(-1, 2).T.tobytes()
    return head + bytes(imagecodecs.zstd_encode(raw))


def entry_of(tile: Tile, at: int) -> bytes:
    """Its entry in the directory."""
    height, width, samples = tile.pixels.shape
    axes = [("X", tile.x, width * tile.shrunk, width), ("Y", tile.y, height * tile.shrunk, height)]
    axes += [(name, place, 1, 1) for name, place in tile.places.items()]
    axes += [] if tile.mosaic is None else [("M", tile.mosaic, 1, 1)]
    kind = KINDS[tile.pixels.dtype.name, samples]
    level = 0 if tile.shrunk == 1 else 2
    head = struct.pack("<2siqiiB5xi", b"DV", kind, at, 0, CODECS[tile.codec], level, len(axes))
    return head + b"".join(
        struct.pack("<4siifi", name.encode(), start, size, float(start), stored)
        for name, start, size, stored in axes
    )


def write_czi(path: Path, *tiles: Tile, xml: str = "<ImageDocument/>") -> None:
    """Write tiles in this order, the directory behind them."""
    with path.open("wb") as file:

        def segment(name: bytes, data: bytes) -> int:
            file.write(b"\0" * (-file.tell() % 32))
            at = file.tell()
            file.write(struct.pack("<16sqq", name, len(data), len(data)) + data)
            return at

        def header(directory: int, metadata: int) -> bytes:
            places = (0, directory, metadata, 0, 0)
            return struct.pack("<iiii16s16siqqiq", 1, 0, 0, 0, b"", b"", *places).ljust(512, b"\0")

        segment(b"ZISRAWFILE", header(0, 0))
        entries = []
        for tile in tiles:
            at = file.tell() + -file.tell() % 32
            entry, data = entry_of(tile, at), encoded(tile)
            head = (struct.pack("<iiq", 0, 0, len(data)) + entry).ljust(256, b"\0")
            assert segment(b"ZISRAWSUBBLOCK", head + data) == at
            entries.append(entry)
        text = xml.encode()
        metadata = segment(
            b"ZISRAWMETADATA", struct.pack("<ii", len(text), 0).ljust(256, b"\0") + text
        )
        listed = struct.pack("<i", len(entries)).ljust(128, b"\0") + b"".join(entries)
        directory = segment(b"ZISRAWDIRECTORY", listed)
        file.seek(0)
        segment(b"ZISRAWFILE", header(directory, metadata))
