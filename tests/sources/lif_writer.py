"""Writes Leica LIF files: XML in UTF-16, then blocks of plain pixels."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

#: DimID of a dimension.
DIMENSIONS = {"X": 1, "Y": 2, "Z": 3, "T": 4, "E": 5, "A": 6, "M": 10}


def lif_image(
    name: str,
    image: np.ndarray,
    axes: str,
    names: tuple[str, ...] = (),
    tags: tuple[int, ...] = (),
    lengths: dict[str, float] | None = None,
    tiles: tuple[tuple[float, float, float], ...] = (),
    dye: str = "",
) -> tuple[str, bytes, str]:
    """One image: its XML element, its bytes and the identity of its block.

    Parameters
    ----------
    axes : str
        Of `image`, as stored; "C" are channels, the others keys of `DIMENSIONS`.
    lengths : dict, optional
        From the first to the last element, in metres (seconds for "T").
    tiles : tuple
        (z, y, x) of each stage position in metres.
    """
    image = np.ascontiguousarray(image)
    steps = dict(zip(axes, image.strides, strict=True))
    sizes = dict(zip(axes, image.shape, strict=True))
    channels = sizes.get("C", 1)
    lengths = lengths or {}
    dims = "".join(
        f'<DimensionDescription DimID="{DIMENSIONS[a]}" NumberOfElements="{sizes[a]}" '
        f'Origin="{5e-7 if a == "E" else 0}" Length="{lengths.get(a, 0)}" '
        f'Unit="{"s" if a == "T" else "m"}" BitInc="0" BytesInc="{steps[a]}"/>'
        for a in reversed(axes)
        if a != "C"
    )
    kind = int(image.dtype.kind == "f")
    described = "".join(
        f'<ChannelDescription DataType="{kind}" ChannelTag="{tags[c] if tags else 0}" '
        f'Resolution="{image.itemsize * 8}" NameOfMeasuredQuantity="" Min="0" Max="1" Unit="" '
        f'LUTName="{names[c] if names else ""}" IsLUTInverted="0" '
        f'BytesInc="{c * steps.get("C", 0)}" BitInc="0">'
        + (
            f"<ChannelProperty><Key>DyeName</Key><Value>{dye}</Value></ChannelProperty>"
            if dye and c == 0
            else ""
        )
        + "</ChannelDescription>"
        for c in range(channels)
    )
    scan = "".join(
        f'<Tile FieldX="0" FieldY="0" PosX="{x}" PosY="{y}" PosZ="{z}"/>' for z, y, x in tiles
    )
    attachment = f'<Attachment Name="TileScanInfo">{scan}</Attachment>' if scan else ""
    block = f"MemBlock_{name}"
    element = (
        f'<Element Name="{name}"><Data><Image><ImageDescription><Channels>{described}</Channels>'
        f"<Dimensions>{dims}</Dimensions></ImageDescription>{attachment}</Image></Data>"
        f'<Memory Size="{image.nbytes}" MemoryBlockID="{block}"/></Element>'
    )
    return element, image.tobytes(), block


def write_lif(path: Path, *images: tuple[str, bytes, str]) -> None:
    """Write the images that `lif_image` made."""
    children = "".join(element for element, _, _ in images)
    xml = (
        f'<LMSDataContainerHeader Version="2"><Element Name="{path.stem}">'
        f'<Memory Size="0" MemoryBlockID="MemBlock_0"/><Children>{children}</Children>'
        "</Element></LMSDataContainerHeader>"
    ).encode("utf-16-le")
    with path.open("wb") as file:
        file.write(struct.pack("<IIBI", 0x70, len(xml) + 5, 0x2A, len(xml) // 2) + xml)
        for _, data, block in (("", b"", "MemBlock_0"), *images):
            name = block.encode("utf-16-le")
            head = struct.pack("<IIBQBI", 0x70, 0, 0x2A, len(data), 0x2A, len(block))
            file.write(head + name + data)
