"""One strip or tile of a TIFF page: its bytes, decoded, or a reason why not."""

from __future__ import annotations

import math

import numpy as np
import tifffile

from pipeline.errors import DamageError, UnreadableError
from pipeline.sources.end_marker import require_end
from pipeline.sources.file_bytes import FileBytes
from pipeline.sources.jpeg_intervals import IntervalLayout, decode_intervals
from pipeline.sources.tiff_grid import SegmentGrid

SEGMENT_LIMIT_BYTES = 1 << 30
OLD_JPEG = 6
JPEG = {7, 33007, 34892}
JPEG2000 = {33003, 33004, 33005, 34712}
#: Aperio's JPEG 2000 whose stream does not say that its samples are Y, Cb, Cr.
JPEG2000_YCBCR = 33003


def require_decodable(path: str, key: tifffile.TiffPage, grid: SegmentGrid) -> None:
    """Ask, without pixels, whether the segments of a page can be decoded.

    Raises
    ------
    UnreadableError
        The codec or the pixel format is not known, or one segment is larger than
        `SEGMENT_LIMIT_BYTES` when decoded.
    """
    if key.compression == OLD_JPEG:
        # Its tables lie apart, in as many ways as there were writers; libjpeg sees no JPEG.
        raise UnreadableError(
            path,
            "old-style JPEG compression (6) is not read",
            "Convert it, for example by libtiff.",
        )
    size = grid.pixels * np.dtype(key.dtype).itemsize
    if size > SEGMENT_LIMIT_BYTES:
        raise UnreadableError(
            path,
            f"one {grid.kind} decodes to {size} bytes, the limit is {SEGMENT_LIMIT_BYTES}",
            "Write it again in tiles, for example of 512 x 512.",
        )
    try:
        # Without data nothing is decoded, but an unknown codec or pixel format raises.
        key.decode(None, 0)
    except Exception as error:
        raise UnreadableError(
            path,
            f"its pixels cannot be decoded: {first_line(error)}",
            "Convert it, for example to OME-TIFF.",
        ) from error


def stored_bytes(page: tifffile.TiffPage, grid: SegmentGrid, index: int) -> int:
    """Bytes of a segment that count; some writers claim whole rows behind the last ones."""
    count = int(page.databytecounts[index])
    key = page.keyframe
    if key.compression != 1 or not isinstance(key.bitspersample, int):
        return count
    _, rows, columns = grid.segment
    if not grid.tiled:
        top = index % grid.counts[1] * rows
        rows = min(rows, grid.page[2] - top)
    row_bytes = -(-columns * grid.page[4] * key.bitspersample // 8)
    return min(count, grid.segment[0] * rows * row_bytes)


class PageDecoder:
    """Reads and decodes segments of one page; what they have in common is looked up once.

    Parameters
    ----------
    files : FileBytes
    page : tifffile.TiffPage
    grid : SegmentGrid
    """

    def __init__(self, files: FileBytes, page: tifffile.TiffPage, grid: SegmentGrid) -> None:
        self.page, self._files, self._grid = page, files, grid
        self._path = str(page.parent.filehandle.path)
        self._offsets, self._counts = page.dataoffsets, page.databytecounts
        self._stored = min(len(self._offsets), len(self._counts))
        key = page.keyframe
        self._dtype, self._compression = np.dtype(key.dtype).newbyteorder("="), key.compression
        self._decode, self._tables = key.decode, page.jpegtables

    def is_stored(self, index: int) -> bool:
        """Whether the page has bytes for a segment."""
        return index < self._stored and self._offsets[index] > 0 and self._counts[index] > 0

    def decode(self, index: int, what: object) -> np.ndarray:
        """Read and decode one segment; `what` names it in messages.

        Returns
        -------
        block : ndarray of shape (D, H, W, S)
            May be cut at the edge of the page.

        Raises
        ------
        DamageError
            Its bytes are missing, or do not decode to what the page says.
        """
        parts = self._read(index, what)
        try:
            block = self._unpack(parts, index)
        except Exception as error:  # each codec has exceptions of its own
            raise DamageError(
                self._path,
                f"{what} cannot be decoded: {first_line(error)}",
                "Copy the file again from its origin.",
            ) from error
        samples = self._grid.page[4]
        if block is None or not self._is_right(block.dtype) or block.shape[-1] != samples:
            found = "nothing" if block is None else f"{block.dtype} x {block.shape[-1]}"
            raise DamageError(
                self._path, f"{what} decodes to {found}, its page says {self._dtype} x {samples}"
            )
        if self._compression == JPEG2000_YCBCR and block.dtype == np.uint8 and block.shape[-1] == 3:
            return rgb_of(block)
        return block

    def _is_right(self, dtype: np.dtype) -> bool:
        return self._dtype in (dtype, dtype.newbyteorder("="))

    def _read(self, index: int, what: object) -> list[bytes]:
        count = stored_bytes(self.page, self._grid, index)
        if count > SEGMENT_LIMIT_BYTES:
            raise DamageError(
                self._path, f"{what} claims {count} bytes, the limit is {SEGMENT_LIMIT_BYTES}"
            )
        data = self._files.read(self._path, int(self._offsets[index]), count, what)
        if self._compression in JPEG:
            _check_jpeg(self._path, data, what)
        return [data]

    def _unpack(self, parts: list[bytes], index: int) -> np.ndarray | None:
        if self._compression in JPEG | JPEG2000:
            require_end(parts[0])
        block, _, _ = self._decode(parts[0], index, jpegtables=self._tables)
        return None if block is None else np.asarray(block)


class IntervalDecoder(PageDecoder):
    """The same for a page that is one JPEG with known restart markers."""

    def __init__(
        self,
        files: FileBytes,
        page: tifffile.TiffPage,
        grid: SegmentGrid,
        intervals: IntervalLayout,
    ) -> None:
        super().__init__(files, page, grid)
        self._intervals = intervals

    def is_stored(self, index: int) -> bool:
        return all(super(IntervalDecoder, self).is_stored(n) for n in self._numbers(index))

    def _numbers(self, index: int) -> range:
        return self._intervals.numbers(index)

    def _read(self, index: int, what: object) -> list[bytes]:
        numbers = self._numbers(index)
        offsets, counts = ([int(a[n]) for n in numbers] for a in (self._offsets, self._counts))
        return self._files.read_many(self._path, offsets, counts, what)

    def _unpack(self, parts: list[bytes], index: int) -> np.ndarray:
        pixels = decode_intervals(self.page, self._intervals, index, parts)
        return pixels.reshape(1, *pixels.shape[:2], -1)


def page_decoder(files: FileBytes, page: tifffile.TiffPage, grid: SegmentGrid) -> PageDecoder:
    """What decodes the segments of this page."""
    if grid.intervals is not None:
        return IntervalDecoder(files, page, grid, grid.intervals)
    return PageDecoder(files, page, grid)


def rgb_of(ycbcr: np.ndarray) -> np.ndarray:
    """Red, green, blue of 8-bit Y, Cb, Cr, by the whole numbers of libjpeg."""
    y, cb, cr = np.moveaxis(ycbcr.astype(np.int32) - (0, 128, 128), -1, 0)
    half = 1 << 15
    red = y + ((91881 * cr + half) >> 16)
    green = y + ((-22554 * cb - 46802 * cr + half) >> 16)
    blue = y + ((116130 * cb + half) >> 16)
    return np.stack([red, green, blue], axis=-1).clip(0, 255).astype(np.uint8)


def _check_jpeg(path: str, data: bytes, what: object) -> None:
    # libjpeg allocates what the segment's own header says, whatever the page's tags say.
    try:
        bits, *sides = tifffile.tifffile.jpeg_shape(data)
    except Exception:  # no frame header where the tables are apart: the decoder will say
        return
    size = math.prod(sides) * (2 if bits > 8 else 1)
    if size > SEGMENT_LIMIT_BYTES:
        raise DamageError(
            path, f"{what} unfolds to {size} bytes, the limit is {SEGMENT_LIMIT_BYTES}"
        )


def first_line(error: Exception) -> str:
    """The first line of a library's message, or the name of its error."""
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
