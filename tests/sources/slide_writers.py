"""Writes files as slide scanners do: Aperio, Hamamatsu NDPI and VMS, Leica SCN, Akoya QPTIFF."""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

APERIO = "Aperio Image Library\r\n{w}x{h}|AppMag = 20|MPP = 0.499"


def tissue(height: int, width: int, seed: int = 1) -> np.ndarray:
    """Something smooth in colour, as JPEG wants it."""
    y, x = np.mgrid[:height, :width]
    bands = [(y // 2 + x * (k + 1) // 3 + 40 * seed) % 230 for k in range(3)]
    return np.stack(bands, axis=-1).astype(np.uint8)


def write_svs(
    path: Path, image: np.ndarray, compression="jpeg", tile=(240, 240), **options
) -> None:
    """Full size, thumbnail, a level of a quarter, label and macro, as Aperio orders them."""
    height, width, _ = image.shape
    common = {"metadata": None, "photometric": "rgb"}
    if compression == "jpeg":
        common["photometric"] = "ycbcr"
        options = {"compressionargs": {"level": 90}, "subsampling": (2, 2), **options}
        image_in = {"photometric": "rgb"}
    else:
        image_in = {}
    with tifffile.TiffWriter(path, bigtiff=False) as tif:
        text = APERIO.format(w=width, h=height)
        some = {**common, **image_in, "compression": compression, "tile": tile, **options}
        tif.write(image, description=text, **some)
        tif.write(image[::8, ::8].copy(), description=text, metadata=None, photometric="rgb")
        tif.write(image[::4, ::4].copy(), description=text, **some)
        for kind, name in ((1, "label"), (9, "macro")):
            tif.write(
                image[:50, :60].copy(),
                description=f"{APERIO}\r\n{name}",
                subfiletype=kind,
                metadata=None,
                photometric="rgb",
            )


def jpeg_with_restarts(image: np.ndarray, blocks: int) -> tuple[bytes, list[int]]:
    """A JPEG that can be entered every `blocks` units of 8 x 8 px, and the bytes where."""
    out = io.BytesIO()
    Image.fromarray(image).save(
        out, "JPEG", quality=90, subsampling="4:4:4", restart_marker_blocks=blocks
    )
    data = out.getvalue()
    scan = data.index(b"\xff\xda")
    first = scan + 2 + int.from_bytes(data[scan + 2 : scan + 4], "big")
    return data, [first] + [m.end() for m in re.finditer(rb"\xff[\xd0-\xd7]", data)]


def write_ndpi(path: Path, images: list[np.ndarray], interval_px: int = 128) -> None:
    """Each image one JPEG strip; IFDs with offsets of 64 bits, as Hamamatsu extends TIFF."""
    body, ifds = bytearray(struct.pack("<2sHQ", b"II", 42, 0)), []

    def put(data: bytes) -> int:
        body.extend(b"\0" * (-len(body) % 4))
        at = len(body)
        body.extend(data)
        return at

    for level, image in enumerate(images):
        height, width, _ = image.shape
        data, starts = jpeg_with_restarts(image, interval_px // 8)
        tags = {
            254: (4, 1, 0),
            256: (4, 1, width),
            257: (4, 1, height),
            258: (3, 3, put(struct.pack("<3H", 8, 8, 8))),
            259: (3, 1, 7),
            262: (3, 1, 6),
            271: (2, 10, put(b"Hamamatsu\0")),
            273: (4, 1, put(data)),
            277: (3, 1, 3),
            278: (4, 1, height),
            279: (4, 1, len(data)),
            282: (5, 1, put(struct.pack("<II", 40000 >> level, 1))),
            283: (5, 1, put(struct.pack("<II", 20000 >> level, 1))),
            296: (3, 1, 3),
            65420: (4, 1, 1),
            65421: (11, 1, struct.unpack("<I", struct.pack("<f", 20.0 / 2**level))[0]),
            65426: (4, len(starts), put(struct.pack(f"<{len(starts)}I", *starts))),
        }
        ifds.append(tags)
    link = 4
    for tags in ifds:
        body.extend(b"\0" * (-len(body) % 4))
        struct.pack_into("<Q", body, link, len(body))
        body.extend(struct.pack("<H", len(tags)))
        for code, (kind, count, value) in tags.items():
            body.extend(struct.pack("<HHII", code, kind, count, value))
        link = len(body)
        body.extend(struct.pack("<Q", 0) + bytes(4 * len(tags)))
    path.write_bytes(body)


def write_scn(path: Path, overview: np.ndarray, scan: np.ndarray) -> None:
    """An overview of the slide and one scan with a level of a quarter."""

    def element(name, shape, view, dims):
        height, width, _ = shape
        y, x, h, w = view
        listed = "".join(
            f'<dimension r="{r}" ifd="{ifd}" sizeX="{width >> 2 * r}" sizeY="{height >> 2 * r}"/>'
            for r, ifd in enumerate(dims)
        )
        return (
            f'<image name="{name}"><pixels sizeX="{width}" sizeY="{height}">{listed}</pixels>'
            f'<view sizeX="{w}" sizeY="{h}" offsetX="{x}" offsetY="{y}"/></image>'
        )

    xml = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        '<collection name="c" sizeX="26564529" sizeY="76734304">'
        + element("macro", overview.shape, (0, 0, 76734304, 26564529), [0])
        + element(
            "scan", scan.shape, (3000, 7000, scan.shape[0] * 500, scan.shape[1] * 250), [1, 2]
        )
        + "</collection></scn>"
    )
    options = {"metadata": None, "photometric": "rgb", "compression": "jpeg", "tile": (64, 64)}
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        tif.write(overview, description=xml, **options)
        tif.write(scan, **options)
        tif.write(scan[::4, ::4].copy(), **options)


def write_qptiff(path: Path, image: np.ndarray, names: list[str]) -> None:
    """One page a channel, of shape (C, Y, X)."""
    with tifffile.TiffWriter(path) as tif:
        for name, plane in zip(names, image, strict=True):
            tif.write(
                plane,
                description="<PerkinElmer-QPI-ImageDescription>"
                f"<Biomarker>{name}</Biomarker></PerkinElmer-QPI-ImageDescription>",
                software="PerkinElmer-QPI",
                metadata=None,
                photometric="minisblack",
                compression="lzw",
                tile=(64, 64),
                resolution=(20000, 20000),
                resolutionunit=3,
                extratags=[
                    (286, 5, 1, (3, 10), True),  # XPosition in cm
                    (287, 5, 1, (1, 10), True),
                ],
            )


def write_vms(path: Path, tiles: dict[tuple[int, int], np.ndarray]) -> None:
    """Hamamatsu VMS: a text file, and beside it one JPEG a tile and one of the whole."""
    columns = 1 + max(x for _, x in tiles)
    rows = 1 + max(y for y, _ in tiles)
    lines = ["[Virtual Microscope Specimen]", "NoLayers=1", f"NoJpegColumns={columns}"]
    lines += [f"NoJpegRows={rows}", f"MapFile={path.stem}_map.jpg", "SourceLens=20"]
    for (y, x), image in tiles.items():
        name = f"{path.stem}{'' if (y, x) == (0, 0) else f'({x},{y})'}.jpg"
        key = "ImageFile" + ("" if (y, x) == (0, 0) else f"({x},{y})")
        lines.append(f"{key}={name}")
        path.with_name(name).write_bytes(jpeg_with_restarts(image, image.shape[1] // 8)[0])
    small = next(iter(tiles.values()))[::8, ::8].copy()
    path.with_name(f"{path.stem}_map.jpg").write_bytes(
        jpeg_with_restarts(small, small.shape[1] // 8)[0]
    )
    path.write_text("\n".join(lines) + "\n")
