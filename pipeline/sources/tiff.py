"""TIFF in its dialects: classic, BigTIFF, OME, ImageJ, tiled, striped, pyramids, page stacks.

Pixels are those that are stored: no orientation, palette or "white is zero" is applied, as
microscopes use them for display only. Of a pyramid, level 0 is read.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile

from pipeline.box import Box
from pipeline.errors import ImageError, UnreadableError
from pipeline.sources.base import Source, SourceSpec, require_file
from pipeline.sources.fingerprint import fingerprint_file, fingerprint_files
from pipeline.sources.rows import Part
from pipeline.sources.tiff_check import check_series
from pipeline.sources.tiff_decode import first_line
from pipeline.sources.tiff_info import describe
from pipeline.sources.tiff_layout import LayoutError, lay_out
from pipeline.sources.tiff_pixels import PlaneReader
from pipeline.sources.tiff_slides import read_scn
from pipeline.storage import is_url, path_of
from pipeline.storage.reading import open_file

# What tifffile only logs is checked here and raised; its log would repeat it for every worker.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

# Slide formats carry snapshots of the glass beside the scan.
SNAPSHOTS = {"thumbnail", "label", "macro", "map", "overview"}


class TiffSource(Source):
    """One series of a TIFF file.

    Parameters
    ----------
    spec : SourceSpec
        `series` is the number that tifffile gives it, "" where there is only one.

    Raises
    ------
    UnreadableError
        Not a TIFF file, or one whose axes, codec or pixel type are not read.
    DamageError
        The file is shorter than it says.
    """

    def __init__(self, spec: SourceSpec) -> None:
        self.spec = spec
        require_file(spec)
        self._tif = open_tiff(spec.path)
        try:
            self._open(select_series(spec, self._tif))
        except ImageError:
            self._tif.close()
            raise
        except Exception as error:  # corrupt tags surface as any of Python's errors
            self._tif.close()
            raise UnreadableError(
                spec.path, f"its TIFF structure is not understood: {first_line(error)}"
            ) from error

    @classmethod
    def list_images(cls, spec: SourceSpec) -> list[SourceSpec]:
        """Each image of a file; [] for a file of a multi-file OME-TIFF that another stands for."""
        require_file(spec)
        numbers = list_series(spec.path)
        if numbers == [""]:
            return [spec]
        return [replace(spec, name=f"{spec.name}_s{i}", series=i, scene=f"s{i}") for i in numbers]

    def _open(self, series: tifffile.TiffPageSeries) -> None:
        path = self.spec.path
        if self._tif.is_bif:
            raise UnreadableError(
                path, "is a Ventana BIF file, whose tiles overlap", "Give it the suffix .bif."
            )
        if series.transform is not None:
            raise UnreadableError(path, f"pixels of {series.kind} files need a transformation")
        try:
            self._layout = lay_out(series.axes, series.shape)
        except LayoutError as error:
            raise UnreadableError(
                path, str(error), "Write it again with axes among TCZYX."
            ) from error
        check_series(path, self._tif, series)
        self._files = sorted(_files_of(path, series))
        shapes = [dict(zip(level.axes, level.shape, strict=True)) for level in series.levels]
        self._levels = tuple((shape["Y"], shape["X"]) for shape in shapes)
        self._planes = PlaneReader(path, series, self.spec.missing_chunks)
        self._cache = self._planes.cache
        self._check_planes(series)
        self.info = describe(path, self._tif, series, self._layout, self._planes)

    @property
    def level_sizes(self) -> tuple[tuple[int, int], ...]:
        return self._levels

    def _check_planes(self, series: tifffile.TiffPageSeries) -> None:
        """The sizes that metadata announce must be those of the pages."""
        planar, depth, rows, columns, samples = self._planes.grid.page
        t, c, z, y, x = self._layout.shape
        stored = planar * depth * (1 if series.dataoffset is not None else len(series))
        wanted = t * c * z // self._layout.interleaved
        short = series.dataoffset is None and stored < wanted
        if (rows, columns, samples) != (y, x, self._layout.interleaved) or short:
            raise UnreadableError(
                self.spec.path,
                f"its metadata say {series.shape} ({series.axes}), "
                f"its {len(series)} pages are {tuple(series.keyframe.shape)}",
            )

    def _fill(self, out: np.ndarray, t: int, channels: Sequence[int], box: Box) -> None:
        _, rows, columns = zip(box.start, box.stop, strict=True)
        for k, z in enumerate(range(box.start[0], box.stop[0])):
            for plane, wanted in self._layout.planes(t, channels, z).items():
                self._planes.read(plane, Part(wanted, rows, columns, out[:, k]))

    def fingerprint(self) -> str:
        """Size, mtime and ends of the file; of all files where an OME-TIFF spans several."""
        if len(self._files) == 1:
            return fingerprint_file(path_of(self._files[0]))
        return fingerprint_files(path_of(file) for file in self._files)

    def close(self) -> None:
        self._planes.close()
        self._tif.close()


def open_tiff(path: str) -> tifffile.TiffFile:
    """Open a file and read its first page.

    Raises
    ------
    UnreadableError
        It is no TIFF file.
    """
    try:
        if is_url(path):
            tif = tifffile.TiffFile(open_file(path), name=path)
        else:
            tif = tifffile.TiffFile(path)
        pages = len(tif.pages)
    except Exception as error:  # corrupt headers surface as any of Python's errors
        reason = first_line(error)
        plain = "is not a TIFF file" if "not a TIFF file" in reason else reason
        raise UnreadableError(
            path, plain, "Check that the copy is complete and its suffix is right."
        ) from error
    if pages == 0:
        tif.close()
        raise UnreadableError(path, "is a TIFF file without pages")
    return tif


def image_series(path: str, tif: tifffile.TiffFile) -> list[int]:
    """Numbers of the series that are images, not thumbnails or pictures of the slide.

    Raises
    ------
    UnreadableError
        tifffile finds none.
    """
    try:
        every = list(tif.series)
    except Exception as error:
        raise UnreadableError(
            path, f"its TIFF structure is not understood: {first_line(error)}"
        ) from error
    if not every:
        raise UnreadableError(path, "is a TIFF file without an image")
    full = [i for i, series in enumerate(every) if not _is_snapshot(series)]
    if tif.is_scn:
        images = read_scn(str(tif.pages.first.description))
        scans = [i for i in full if i >= len(images) or not images[i].overview]
        full = scans or full
    return full or list(range(len(every)))


def select_series(spec: SourceSpec, tif: tifffile.TiffFile) -> tifffile.TiffPageSeries:
    """The series that `spec` means.

    Raises
    ------
    UnreadableError
        It does not exist, or the spec names none and there are several.
    """
    numbers = image_series(spec.path, tif)
    if not spec.series:
        if len(numbers) > 1:
            raise UnreadableError(
                spec.path, f"holds {len(numbers)} images and none was chosen", "Name its series."
            )
        return tif.series[numbers[0]]
    if not spec.series.isdecimal() or int(spec.series) >= len(tif.series):
        raise UnreadableError(spec.path, f"has no series {spec.series}; it has {len(tif.series)}")
    return tif.series[int(spec.series)]


def _is_snapshot(series: tifffile.TiffPageSeries) -> bool:
    return bool(series.keyframe.is_reduced) or series.name.strip().lower() in SNAPSHOTS


def _files_of(path: str, series: tifffile.TiffPageSeries) -> set[str]:
    if not series.is_multifile:
        return {path}
    return {path} | {str(page.parent.filehandle.path) for page in series if page is not None}


def list_series(path: str) -> list[str]:
    """Each image in a file as `SourceSpec.series` names it.

    Returns
    -------
    series : list of str
        [""] for the only image; of several, those whose first page lies in this file and not in
        another one of its OME-TIFF set.

    Raises
    ------
    UnreadableError
        It is no TIFF file, or its structure is not understood.
    """
    with open_tiff(path) as tif:
        every = image_series(path, tif)
        here = [i for i in every if _starts_here(path, tif.series[i])]
    return [""] if here == every and len(every) == 1 else [str(i) for i in here]


def _starts_here(path: str, series: tifffile.TiffPageSeries) -> bool:
    first = next((page for page in series if page is not None), None)
    if first is None or not series.is_multifile:
        return True
    start = Path(str(first.parent.filehandle.path))
    return not start.exists() or start.samefile(path)
