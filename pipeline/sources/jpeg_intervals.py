"""One JPEG of a whole slide, entered at its restart markers, as Hamamatsu NDPI stores a level.

Between two restart markers lies an interval of 8 x 8 blocks (or larger ones, where colours are
stored coarser) that needs nothing of what comes before. Intervals one below the other, or as many
as fill whole rows, are put behind a header of their own and decoded as one small JPEG.

Source: ITU-T T.81, sections B.2.4.4 (restart interval) and E.1.4.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import imagecodecs
import numpy as np
import tifffile

from pipeline.sources.end_marker import END

#: Height of what is decoded at once, as near as whole intervals come to it.
HEIGHT_PX = 128
START_OF_FRAME, START_OF_SCAN, RESTART_INTERVAL = 0xC0, 0xDA, 0xDD
RESTARTS = tuple(bytes((0xFF, 0xD0 + k)) for k in range(8))


@dataclass(frozen=True, slots=True)
class IntervalLayout:
    """Which intervals make up a segment.

    Parameters
    ----------
    side : tuple of int
        (Y, X) of a segment in px; the last one below may be shorter.
    across : int
        Segments side by side.
    count : int
        Intervals of a segment.
    total : int
        Intervals of the whole JPEG.
    block_px : int
        Height of a row of blocks.
    size_at : int
        Byte in the header where height and width stand.
    """

    side: tuple[int, int]
    across: int
    count: int
    total: int
    block_px: int
    size_at: int

    def numbers(self, index: int) -> range:
        """The intervals of a segment, from top to bottom."""
        row, column = divmod(index, self.across)
        first = row * self.count * self.across + column
        return range(first, min(self.total, first + self.count * self.across), self.across)


def layout_of(page: tifffile.TiffPage) -> IntervalLayout | None:
    """How the intervals of a page lie; None where it is no JPEG with known restart markers."""
    header = page.jpegheader
    if header is None:
        return None
    found = dict(_markers(header))
    (interval,) = struct.unpack_from(">H", header, found[RESTART_INTERVAL])
    block = (int(page.tilelength), int(page.tilewidth) // interval)
    rows, columns = -(-page.imagelength // block[0]), -(-page.imagewidth // block[1])
    # Blocks of a row, or of the fewest rows that end where an interval does.
    aligned = columns % interval == 0
    deep = 1 if aligned else interval // math.gcd(interval, columns)
    times = max(1, HEIGHT_PX // (deep * block[0]))
    width = interval if aligned else columns
    return IntervalLayout(
        side=(times * deep * block[0], width * block[1]),
        across=columns // width,
        count=times * deep * width // interval,
        total=-(-rows * columns // interval),
        block_px=block[0],
        size_at=found[START_OF_FRAME] + 1,
    )


def decode_intervals(
    page: tifffile.TiffPage, layout: IntervalLayout, index: int, parts: list[bytes]
) -> np.ndarray:
    """Decode one segment from the bytes of its intervals.

    Returns
    -------
    pixels : ndarray of shape (Y, X, S) or (Y, X)
        Whole blocks: some may lie below the page, or to its right.

    Raises
    ------
    ValueError
        An interval does not end as one.
    """
    top = index // layout.across * layout.side[0]
    left = -(-(int(page.imagelength) - top) // layout.block_px) * layout.block_px
    data = bytearray(page.jpegheader)
    struct.pack_into(">HH", data, layout.size_at, min(layout.side[0], left), layout.side[1])
    for number, part in enumerate(parts):
        # Restart markers count from 0 to 7 and start again; behind a header comes 0.
        part = part.rstrip(b"\0")
        if part[-2:] not in (*RESTARTS, END):
            raise ValueError("an interval has no end: bytes are missing, or were overwritten")
        data += part[:-2]
        data += RESTARTS[number % 8] if number < len(parts) - 1 else END
    space, out_space = tifffile.tifffile.jpeg_decode_colorspace(
        page.photometric, page.planarconfig, page.extrasamples, page.jpegheader[6:10] == b"JFIF"
    )
    return np.asarray(
        imagecodecs.jpeg_decode(
            bytes(data), bitspersample=8, colorspace=space, outcolorspace=out_space
        )
    )


def _markers(header: bytes) -> Iterator[tuple[int, int]]:
    """Markers before the scan, and where their content begins."""
    at = 2
    while at + 4 <= len(header):
        _, kind, length = struct.unpack_from(">BBH", header, at)
        yield kind, at + 4
        if kind == START_OF_SCAN:
            return
        at += 2 + length
