"""`ImageInfo` of a TIFF series."""

from __future__ import annotations

import numpy as np
import tifffile

from pipeline.image import ImageInfo
from pipeline.sources.channel_names import unique_names
from pipeline.sources.ome_xml import read_ome_xml
from pipeline.sources.pixel_type import pixel_type
from pipeline.sources.tiff_calibration import Calibration, read_aperio, read_imagej, read_lsm
from pipeline.sources.tiff_layout import PlaneLayout
from pipeline.sources.tiff_pixels import PlaneReader
from pipeline.sources.tiff_slides import read_philips, read_qpi, read_resolution, read_scn

RGB, CMYK, YCBCR, CIELAB = 2, 5, 6, 8
COLOURS = {
    RGB: ("red", "green", "blue"),
    CMYK: ("cyan", "magenta", "yellow", "black"),
    YCBCR: ("red", "green", "blue"),  # JPEG, which decodes to RGB; others are refused
    CIELAB: ("lightness", "a", "b"),
}
ALPHA = (1, 2)


def describe(
    path: str,
    tif: tifffile.TiffFile,
    series: tifffile.TiffPageSeries,
    layout: PlaneLayout,
    reader: PlaneReader,
) -> ImageInfo:
    """Axes, sizes and units; `reader` knows what is stored together.

    Raises
    ------
    UnreadableError
        The pixels are complex or of no numeric type.
    """
    calibration = read_calibration(tif, series)
    grid = reader.grid
    depth, rows, columns = (1, 1, grid.page[3]) if reader.raw else grid.segment
    _, _, z, y, x = layout.shape
    return ImageInfo(
        shape=layout.shape,
        dtype=pixel_type(path, np.dtype(series.dtype)),
        axes=layout.axes,
        channels=unique_names(_channel_names(series, layout, calibration), layout.shape[1]),
        pixel_size_um=calibration.pixel_size_um,
        time_step_s=calibration.time_step_s,
        chunks=(1, layout.interleaved, min(depth, z), min(rows, y), min(columns, x)),
        origin_um=calibration.origin_um,
        packed=not reader.raw,
    )


def read_calibration(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Calibration:
    """Units and names from OME-XML, ImageJ, LSM or scanner's metadata, in this order.

    The resolution tags of any other TIFF are print sizes (72 dpi) more often than not: unused.
    """
    if series.kind == "ome" and tif.ome_metadata:
        return read_ome_xml(tif.ome_metadata, series.name, series._index, len(tif.series))
    if tif.is_imagej:
        return read_imagej(tif.imagej_metadata or {}, tif.pages.first)
    if tif.is_lsm:
        return read_lsm(tif.lsm_metadata or {})
    return _read_slide(tif, series)


def _read_slide(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Calibration:
    if tif.is_svs:
        return read_aperio(str(series.keyframe.description))
    if tif.is_scn:
        images = read_scn(str(tif.pages.first.description))
        return images[series._index].calibration if series._index < len(images) else Calibration()
    if tif.is_ndpi:
        return read_resolution(series.keyframe)
    if tif.is_qpi:
        return read_qpi([page for page in series if page is not None])
    if tif.is_philips:
        return read_philips(str(tif.pages.first.description))
    return Calibration()


def _channel_names(
    series: tifffile.TiffPageSeries, layout: PlaneLayout, calibration: Calibration
) -> list[str]:
    samples = _sample_names(series.keyframe, layout.samples)
    if layout.channels == 1:
        # One name for all samples, as OME gives an RGB channel, would only hide which is which.
        return samples if layout.samples > 1 else list(calibration.channels)
    names = unique_names(calibration.channels, layout.channels)
    if layout.samples == 1:
        return list(names)
    return [f"{name} {sample}" for name in names for sample in samples]


def _sample_names(page: tifffile.TiffPage, count: int) -> list[str]:
    names = list(COLOURS.get(int(page.photometric), ()))[:count]
    extra = page.extrasamples
    kinds = list(extra) if isinstance(extra, tuple) else [extra]
    for i in range(len(names), count):
        kind = kinds[i - count + len(kinds)] if count - i <= len(kinds) else 0
        names.append("alpha" if kind in ALPHA else str(i))
    return names
