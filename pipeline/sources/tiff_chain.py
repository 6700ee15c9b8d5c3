"""The chain of page descriptors (IFD) in a TIFF file, followed to its end.

tifffile stops without an error where the next page lies behind the end of a cut file, and leaves
out a tag whose value does: a stack gets fewer planes, an OME-TIFF loses its axes.
"""

from __future__ import annotations

import struct
from io import RawIOBase
from typing import cast

import tifffile

from pipeline.errors import DamageError
from pipeline.storage.reading import open_file

AGAIN = "Copy the file again from its origin."
TAG_LIMIT = 4096
TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
TYPE_BYTES |= {13: 4, 16: 8, 17: 8, 18: 8}
# Those without which pixels or axes would differ; private tags are often nonsense, and harmless.
NEEDED = {
    270: "ImageDescription",
    273: "StripOffsets",
    279: "StripByteCounts",
    324: "TileOffsets",
    325: "TileByteCounts",
    330: "SubIFDs",
    347: "JPEGTables",
}


def check_chain(path: str, tif: tifffile.TiffFile) -> None:
    """Follow the offsets from page to page.

    Raises
    ------
    DamageError
        A page, or the value of a tag that is needed, lies behind the end of the file.
    """
    if tif.tiff.is_ndpi:  # offsets of 64 bits in a layout of its own
        return
    size = int(tif.filehandle.size)
    seen: set[int] = set()
    with open_file(path) as file:
        raw = cast(RawIOBase, file)
        try:
            offset = _number(raw, 8 if tif.tiff.is_bigtiff else 4, tif.tiff.offsetformat)
            while offset and offset not in seen:
                seen.add(offset)
                offset = _next_page(path, raw, tif.tiff, offset, size)
        except struct.error as error:
            raise DamageError(
                path,
                f"is cut off: page {len(seen) - 1} lies at byte {offset}, "
                f"the file ends at byte {size}",
                AGAIN,
            ) from error


def _next_page(
    path: str, file: RawIOBase, form: tifffile.tifffile.TiffFormat, offset: int, size: int
) -> int:
    """Offset of the page behind the one at `offset`; 0 at the end."""
    count = _number(file, offset, form.tagnoformat)
    if count > TAG_LIMIT:
        raise DamageError(path, f"the page at byte {offset} claims {count} tags", AGAIN)
    entries = file.read(count * form.tagsize) or b""
    entry = f"{form.byteorder}HH{'QQ' if form.is_bigtiff else 'II'}"
    inline = 8 if form.is_bigtiff else 4
    following = _number(file, offset + form.tagnosize + count * form.tagsize, form.offsetformat)
    for code, kind, values, start in struct.iter_unpack(entry, entries):
        extent = values * TYPE_BYTES.get(kind, 0)
        if code in NEEDED and extent > inline and start + extent > size:
            raise DamageError(
                path,
                f"is cut off: {NEEDED[code]} ends at byte {start + extent}, the file at {size}",
                AGAIN,
            )
    return following


def _number(file: RawIOBase, offset: int, form: str) -> int:
    file.seek(offset)
    return int(struct.unpack(form, file.read(struct.calcsize(form)) or b"")[0])
