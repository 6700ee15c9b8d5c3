"""Pixels of TIFF planes: rows straight from the file, or decoded strips and tiles.

1. A series stored in one piece without compression (ImageJ stacks, most plain files): the wanted
   part of each row is read at its byte position.
2. A page stored so, among others: the same within the page.
3. Anything else: the strips or tiles that intersect are read, decoded by tifffile's decoder of
   the page, and kept for the neighbours.

tifffile's own zarr store and `asarray` are not used: both put zeros (the page's "nodata") where a
page is missing or a segment has no bytes, without a word.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import tifffile

from pipeline.errors import DamageError
from pipeline.sources.cache import CACHE_BYTES, SegmentCache
from pipeline.sources.file_bytes import FileBytes
from pipeline.sources.rows import Part, RowLayout, read_rows
from pipeline.sources.tiff_decode import first_line, page_decoder, require_decodable
from pipeline.sources.tiff_grid import Segment, SegmentGrid, grid_of

GDAL_NODATA = 42113


class _Name(NamedTuple):
    """What a segment is called, spelled only where something is wrong with it."""

    grid: SegmentGrid
    page: int
    segment: Segment

    def __str__(self) -> str:
        _, _, height, width, _ = self.grid.page
        _, rows, columns = self.grid.segment
        bottom = min(height, self.segment.row + rows) - 1
        right = min(width, self.segment.column + columns) - 1
        return (
            f"{self.grid.kind} {self.segment.number} (rows {self.segment.row}-{bottom}, "
            f"columns {self.segment.column}-{right} of page {self.page})"
        )


class PlaneReader:
    """Read rectangles of the planes of one series.

    Parameters
    ----------
    path : str
        The file, for messages.
    series : tifffile.TiffPageSeries
        Level 0, its file still open.
    missing : str
        "error" or "fill", see `SourceSpec.missing_chunks`.

    Raises
    ------
    UnreadableError
        The pixels cannot be decoded here, or a segment is too large.
    """

    def __init__(self, path: str, series: tifffile.TiffPageSeries, missing: str) -> None:
        self._path, self._series, self._missing = path, series, missing
        self._key = series.keyframe
        self.grid: SegmentGrid = grid_of(self._key)
        self._stored = np.dtype(series.dtype).newbyteorder(self._key.parent.byteorder)
        self._start: int | None = series.dataoffset
        self.raw: bool = self._start is not None or bool(self._key.is_final)
        self._files, self.cache = FileBytes(), SegmentCache(CACHE_BYTES)
        self._pages_lock = threading.Lock()
        if not self.raw:
            require_decodable(path, self._key, self.grid)

    def read(self, plane: int, part: Part) -> None:
        """Write the wanted samples of one plane.

        Parameters
        ----------
        plane : int
            Row-major number over the series' axes before Y.
        part : Part
            Its samples are numbers of those that are interleaved.

        Raises
        ------
        DamageError
            Bytes are missing or cannot be decoded.
        """
        if self._start is not None:
            path = str(self._key.parent.filehandle.path)
            self._read_rows(path, self._start, plane, part)
            return
        planar, depth = self.grid.page[:2]
        number, within = divmod(plane, planar * depth)
        page = self._page(number)
        if not self.raw or not _in_one_piece(page):
            self._read_segments(number, page, divmod(within, depth), part)
        elif not page.dataoffsets[0]:
            self._fill_missing(f"page {number} was never written", part.wanted, part.out)
        else:
            path = str(page.parent.filehandle.path)
            self._read_rows(path, int(page.dataoffsets[0]), within, part)

    def _page(self, number: int) -> tifffile.TiffPage:
        with self._pages_lock:  # tifffile may seek its own file handle to load the page
            try:
                page = self._series[number]
            except Exception as error:
                raise DamageError(
                    self._path, f"page {number} cannot be read: {first_line(error)}"
                ) from error
        if page is None:
            raise DamageError(self._path, f"page {number} is missing")
        return page

    def _read_rows(self, path: str, start: int, plane: int, part: Part) -> None:
        _, _, height, width, samples = self.grid.page
        size = self._stored.itemsize
        layout = RowLayout(height, width, width * samples * size, samples * size, self._stored)
        wanted = [(target, sample * size) for target, sample in part.wanted]
        first = start + plane * height * layout.row_bytes
        rows = replace(part, wanted=wanted)
        read_rows(self._files, path, first, layout, rows, f"plane {plane}")

    def _read_segments(
        self, number: int, page: tifffile.TiffPage, where: tuple[int, int], part: Part
    ) -> None:
        planar, depth = where
        (y0, y1), (x0, x1) = part.rows, part.columns
        deep, rows, columns = self.grid.segment
        _, _, height, width, samples = self.grid.page
        every = deep == 1 and len({sample for _, sample in part.wanted}) == samples
        decoder = page_decoder(self._files, page, self.grid)
        for segment in self.grid.covering(planar, depth, part.rows, part.columns):
            ends = (min(height, segment.row + rows), min(width, segment.column + columns))
            top, bottom = max(y0, segment.row), min(y1, ends[0])
            left, right = max(x0, segment.column), min(x1, ends[1])
            out = part.out[:, top - y0 : bottom - y0, left - x0 : right - x0]
            what = _Name(self.grid, number, segment)
            if not decoder.is_stored(segment.number):
                self._fill_missing(f"{what} was never written", part.wanted, out)
                continue
            key = (number, segment.number)
            block = self.cache.find(key)
            if block is None:
                block = _inside(decoder.decode(segment.number, what), segment, ends)
                whole = (segment.row, segment.column, *ends) == (top, left, bottom, right)
                self.cache.keep(key, block, used_up=every and whole)
            cut = block[
                depth - segment.depth,
                top - segment.row : bottom - segment.row,
                left - segment.column : right - segment.column,
            ]
            if cut.shape[:2] != out.shape[1:]:
                raise DamageError(self._path, f"{what} decodes to too few pixels")
            for target, sample in part.wanted:
                out[target] = cut[:, :, sample]

    def _fill_missing(self, what: str, wanted: Sequence[tuple[int, int]], out: np.ndarray) -> None:
        """Fill where the file declares a value for holes (GDAL_NODATA) or the recipe allows it."""
        if GDAL_NODATA not in self._key.tags and self._missing != "fill":
            raise DamageError(
                self._path,
                f"{what}: the file names no bytes for it",
                "If its writer leaves out empty parts, set source.missing_chunks: fill.",
            )
        for target, _ in wanted:
            out[target] = self._key.nodata

    def close(self) -> None:
        self.cache.clear()
        self._files.close()


def _inside(block: np.ndarray, segment: Segment, ends: tuple[int, int]) -> np.ndarray:
    """A block without what hangs over the edge of the page, which would only take memory."""
    inside = block[:, : ends[0] - segment.row, : ends[1] - segment.column]
    return block if inside.shape == block.shape else inside.copy()


def _in_one_piece(page: tifffile.TiffPage) -> bool:
    """Whether the strips of this very page follow each other; its keyframe's may, its own not."""
    offsets, counts = page.dataoffsets, page.databytecounts
    if len(offsets) < 2:
        return True
    return all(a + n == b for a, n, b in zip(offsets, counts, offsets[1:], strict=False))
