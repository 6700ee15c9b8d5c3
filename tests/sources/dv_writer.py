"""Writes DeltaVision files: a header of 1024 bytes, one of each section, and planes."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

KINDS = {"uint8": 0, "int16": 1, "float32": 2, "uint16": 6, "int32": 7}
# Sequence numbers and the axes before Y and X, outermost first.
ORDERS = {0: "CTZ", 1: "TZC", 2: "TCZ"}
SECTION = struct.Struct("<8i32f")


def write_dv(
    path: Path,
    image: np.ndarray,
    sequence: int = 0,
    stage=(0.0, 0.0, 0.0),
    step_s=0.0,
    pixel_um=(0.3, 0.2, 0.1),
    byteorder="<",
) -> None:
    """Write a (T, C, Z, Y, X) image."""
    times, channels, depth, height, width = image.shape
    sections = times * channels * depth
    header = bytearray(1024)

    def put(form: str, at: int, *values) -> None:
        struct.pack_into(byteorder + form, header, at, *values)

    put("4i", 0, width, height, sections, KINDS[image.dtype.name])
    put("3f", 40, *pixel_um[::-1])
    put("i", 92, sections * SECTION.size)
    put("H", 96, 0xC0A0)
    put("2h", 128, 8, 32)
    put("2h", 180, times, sequence)
    put("6h", 196, channels, 525, 605, 0, 0, 0)
    order = ORDERS[sequence]
    planes = image.transpose(["TCZ".index(axis) for axis in order] + [3, 4])
    with path.open("wb") as file:
        file.write(header)
        for index in np.ndindex(planes.shape[:3]):
            z, y, x = stage
            floats = [0.0, dict(zip(order, index, strict=True))["T"] * step_s, x, y, z]
            file.write(SECTION.pack(*[0] * 8, *floats, *[0.0] * 27))
        file.write(planes.astype(image.dtype.newbyteorder(byteorder)).tobytes())
