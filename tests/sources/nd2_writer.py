"""Writes ND2 files of version 3: chunks, their map, and metadata as XML variants."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

ALIGNMENT = 4096
LOOPS = {"T": 1, "P": 2, "Z": 4}


def variant(value: object, name: str = "variant") -> str:
    """An XML variant; whole numbers, floats, text, truth, dicts and lists."""
    if isinstance(value, dict):
        inner = "".join(variant(item, key) for key, item in value.items())
        return f'<{name} runtype="CLxListVariant">{inner}</{name}>'
    if isinstance(value, list):
        inner = "".join(variant(item, "no_name") for item in value)
        return f'<{name} runtype="CLxListVariant">{inner}</{name}>'
    kinds = {bool: "bool", int: "lx_int32", float: "double", str: "CLxStringW"}
    text = quoteattr(str(value).lower() if isinstance(value, bool) else str(value))
    return f'<{name} runtype="{kinds[type(value)]}" value={text}/>'


def _loop(axis: str, count: int, names, places, step) -> dict:
    if axis == "T":
        pars = {"uiCount": count, "dStart": 0.0, "dPeriod": step * 1e3, "dDuration": 0.0}
    elif axis == "Z":
        pars = {"uiCount": count, "dZLow": 0.0, "dZHigh": (count - 1) * step, "dZStep": step}
        pars |= {"dZHome": 0.0, "bZInverted": False, "iType": 0, "wsZDevice": "z"}
    else:
        points = {
            f"i{i:010}": {"dPosX": x, "dPosY": y, "dPosZ": z, "pPosName": names[i]}
            for i, (z, y, x) in enumerate(places)
        }
        pars = {"uiCount": count, "bUseZ": True, "bRelativeXY": False, "Points": points}
    return {"eType": LOOPS[axis], "uiLoopPars": 0, "uLoopPars": pars}


def _experiment(axes: str, sizes, names, places, steps) -> dict:
    found: dict = {}
    for axis in reversed(axes):
        one = _loop(axis, sizes[axis], names, places, steps.get(axis, 0.5))
        found = one | ({"ppNextLevelEx": {"i0000000000": found}} if found else {})
    return found


def write_nd2(
    path: Path,
    image: np.ndarray,
    axes: str = "",
    compressed: bool = False,
    padding: int = 0,
    colour: bool = False,
    names: tuple[str, ...] = (),
    places: tuple[tuple[float, float, float], ...] = (),
    steps: dict[str, float] | None = None,
    lost: tuple[int, ...] = (),
) -> None:
    """Write an image of axes (*`axes`, Y, X, C), `axes` of "TPZ" in any order.

    Parameters
    ----------
    padding : int
        Bytes behind each row.
    colour : bool
        The components are one channel in colour.
    lost : tuple of int
        Frames that are left out.
    """
    sizes = dict(zip(axes, image.shape, strict=False))
    *_, height, width, components = image.shape
    frames = image.reshape(-1, height, width, components)
    bits = image.itemsize * 8
    planes = 1 if colour else components
    row = width * components * image.itemsize + padding
    places = places or ((0.0, 0.0, 0.0),) * sizes.get("P", 1)
    names = names or ("",) * sizes.get("P", 1)
    plane = {
        f"a{i}": {
            "uiCompCount": components // planes,
            "sDescription": f"c{i}",
            "uiColor": 255,
            "pFluorescentProbe": {"m_sName": f"c{i}"},
        }
        for i in range(planes)
    }
    chunks: list[tuple[str, bytes]] = []

    def add(name: str, value: dict) -> None:
        chunks.append((name, variant({"no_name": value}).encode()))

    add(
        "ImageAttributesLV",
        {
            "uiWidth": width,
            "uiWidthBytes": row,
            "uiHeight": height,
            "uiComp": components,
            "uiBpcInMemory": bits,
            "uiBpcSignificant": bits,
            "uiSequenceCount": len(frames),
            "eCompression": 0 if compressed else 2,
            "dCompressionParam": 0.0,
        },
    )
    add(
        "ImageMetadataSeqLV|0",
        {
            "dCalibration": 0.25,
            "bCalibrated": True,
            "dXPos": 11.0,
            "dYPos": 12.0,
            "dZPos": 13.0,
            "sPicturePlanes": {"uiCount": planes, "sPlaneNew": plane},
        },
    )
    if axes:
        add("ImageMetadataLV", _experiment(axes, sizes, names, places, steps or {}))
    chunks.append(("CustomData|AcqTimesCache", np.arange(len(frames), dtype="<f8").tobytes()))
    for number, frame in enumerate(frames):
        if number in lost:
            continue
        rows = frame.reshape(height, -1).astype(image.dtype.newbyteorder("<"))
        data = b"".join(line.tobytes() + b"\xee" * padding for line in rows)
        data = zlib.compress(data) if compressed else data
        chunks.append((f"ImageDataSeq|{number}", struct.pack("<d", 0.0) + data))
    _write_chunks(path, chunks)


def _write_chunks(path: Path, chunks: list[tuple[str, bytes]]) -> None:
    with path.open("wb") as file:

        def put(name: bytes, data: bytes, reserve: int) -> int:
            at = file.tell()
            file.write(struct.pack("<IIQ", 0x0ABECEDA, reserve, len(data)))
            file.write(name.ljust(reserve, b"\0") + data)
            file.write(b"\0" * (-file.tell() % ALIGNMENT))
            return at

        put(b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver3.0".ljust(64, b"\0"), 32)
        listed = b""
        for name, data in chunks:
            key = f"{name}!".encode()
            at = put(key, data, ALIGNMENT - 24)
            listed += key + struct.pack("<QQ", at, len(data))
        mark = b"ND2 CHUNK MAP SIGNATURE 0000001!"
        at = file.tell()
        listed += mark + struct.pack("<Q", at)
        file.write(struct.pack("<IIQ", 0x0ABECEDA, 32, len(listed)))
        file.write(b"ND2 FILEMAP SIGNATURE NAME 0001!" + listed)
