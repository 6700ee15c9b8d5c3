"""Is the TIFF file whole? tifffile reads what is left of a cut file without a word."""

from __future__ import annotations

import math
from collections.abc import Iterator

import tifffile

from pipeline.errors import DamageError, UnreadableError
from pipeline.sources.tiff_chain import AGAIN, check_chain
from pipeline.sources.tiff_decode import stored_bytes
from pipeline.sources.tiff_grid import SegmentGrid, grid_of
from pipeline.storage.reading import size_of


def check_series(path: str, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> None:
    """Compare what the metadata promise with the bytes of the file; reads no pixels.

    Raises
    ------
    DamageError
        The chain of pages, a page or the end of the pixels lies behind the end of the file.
    """
    check_chain(path, tif)
    _check_imagej(path, tif, series)
    if series.dataoffset is not None:
        _check_end(path, int(series.dataoffset) + int(series.nbytes), tif.filehandle.size)
    else:
        _check_pages(path, series)


def _check_imagej(path: str, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> None:
    # Where an ImageJ stack is cut, tifffile falls back to its one page descriptor.
    if not tif.is_imagej or series.kind in ("imagej", "ome"):
        return
    meta = tif.imagej_metadata or {}
    images = max(
        int(meta.get("images", 1)),
        math.prod(int(meta.get(key, 1)) for key in ("channels", "slices", "frames")),
    )
    if images > len(series):
        raise DamageError(
            path, f"is cut off: {images} planes are announced, {len(series)} are there", AGAIN
        )


def _check_end(path: str, end: int, size: int) -> None:
    if end > size:
        raise DamageError(
            path, f"is cut off: its pixels end at byte {end}, the file at byte {size}", AGAIN
        )


def _check_pages(path: str, series: tifffile.TiffPageSeries) -> None:
    grid = grid_of(series.keyframe)
    sizes: dict[str, int] = {}
    pages = list(series)
    missing = [number for number, page in enumerate(pages) if page is None]
    if missing:
        raise DamageError(
            path,
            f"{len(missing)} of {len(pages)} pages that its metadata announce are missing, "
            f"the first is page {missing[0]}",
            "Copy the file again, with the files that belong to it.",
        )
    for page in pages:
        name = str(page.parent.filehandle.path)
        if name not in sizes:
            sizes[name] = size_of(name)
            _require_same(path, series.keyframe, page.parent.pages.first)
        _check_end(name, page_end(page, grid), sizes[name])


def _require_same(path: str, key: tifffile.TiffPage, page: tifffile.TiffPage) -> None:
    """Files of one OME-TIFF may differ in how they are compressed, but not in where pixels lie."""
    if page.parent is key.parent:
        return
    for (what, here), (_, there) in zip(_placing(key), _placing(page), strict=True):
        if here != there:
            raise UnreadableError(
                path,
                f"its planes lie in files that differ in {what}: {here} in "
                f"{key.parent.filehandle.path}, {there} in {page.parent.filehandle.path}",
                "Write the files again in one way.",
            )


def _placing(page: tifffile.TiffPage) -> Iterator[tuple[str, object]]:
    """What decides where the pixels of a page lie, in words."""
    grid = grid_of(page)
    yield "size (samples, depth, rows, columns, samples of a pixel)", grid.page
    yield "type", str(page.dtype)
    yield f"size of {grid.kind}s", grid.segment[1:]
    raw = bool(page.is_final)
    yield "whether they are compressed", "no" if raw else "yes"
    yield "byte order", page.parent.byteorder if raw else "any"


def page_end(page: tifffile.TiffPage, grid: SegmentGrid) -> int:
    """First byte behind the pixels of a page; 0 where it stores none."""
    if len(page.dataoffsets) == 0:
        return 0
    if page.keyframe.is_final and len(page.dataoffsets) == 1:
        offset = int(page.dataoffsets[0])
        return offset + int(page.keyframe.nbytes) if offset else 0
    # The last bytes in the file need not be those of the last segment.
    stored = min(len(page.dataoffsets), len(page.databytecounts))
    last = max(range(stored), key=lambda i: page.dataoffsets[i] + page.databytecounts[i])
    if not page.databytecounts[last]:
        return 0
    return int(page.dataoffsets[last]) + stored_bytes(page, grid, last)
