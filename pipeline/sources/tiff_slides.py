"""What TIFF files of slide scanners say of themselves, each maker in a way of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import tifffile

from pipeline.sources.tiff_calibration import Calibration
from pipeline.sources.units import micrometres, position_um

CENTIMETRES = 3


def read_resolution(page: tifffile.TiffPage) -> Calibration:
    """Hamamatsu NDPI, Akoya QPTIFF: resolution and position tags in centimetres are meant."""
    if page.tags.valueof("ResolutionUnit") != CENTIMETRES:
        return Calibration()
    y, x = (_size(page.tags.valueof(name)) for name in ("YResolution", "XResolution"))
    places = [_ratio(page.tags.valueof(name)) for name in ("YPosition", "XPosition")]
    top, left = (None if place is None else position_um(place, "cm") for place in places)
    return Calibration(pixel_size_um=(None, y, x), origin_um=(None, top, left))


def read_qpi(pages: Sequence[tifffile.TiffPage]) -> Calibration:
    """Akoya (PerkinElmer) QPTIFF: one page a channel, each with XML that names it."""
    found = read_resolution(pages[0])
    names = [_qpi_name(str(page.description)) for page in pages]
    return Calibration(tuple(names), found.pixel_size_um, None, found.origin_um)


def read_philips(xml: str) -> Calibration:
    """Philips: the pixel spacings of all levels in millimetres, the finest one first."""
    root = _parsed(xml)
    for item in () if root is None else root.iter("Attribute"):
        if item.get("Name") == "DICOM_PIXEL_SPACING" and item.text:
            sizes = item.text.replace('"', "").split()
            if len(sizes) == 2:
                y, x = (micrometres(size, "mm") for size in sizes)
                return Calibration(pixel_size_um=(None, y, x))
    return Calibration()


@dataclass(frozen=True, slots=True)
class ScnImage:
    """One image of a Leica SCN file.

    Parameters
    ----------
    overview : bool
        It shows the whole slide.
    calibration : Calibration
    """

    overview: bool
    calibration: Calibration


def read_scn(xml: str) -> list[ScnImage]:
    """The images of a Leica SCN file, in the order of its XML; [] where that is broken.

    The view of an image is its place on the slide in nanometres; that of the overview is the slide.
    """
    root = _parsed(xml)
    found: list[ScnImage] = []
    for collection in () if root is None else (e for e in root if _tag(e) == "collection"):
        whole = (collection.get("sizeX"), collection.get("sizeY"))
        for image in (e for e in collection if _tag(e) == "image"):
            view = next((e for e in image if _tag(e) == "view"), None)
            pixels = next((e for e in image if _tag(e) == "pixels"), None)
            if view is None or pixels is None:
                found.append(ScnImage(False, Calibration()))
                continue
            sizes = [_pitch(view.get(f"size{a}"), pixels.get(f"size{a}")) for a in "YX"]
            places = [position_um(view.get(f"offset{a}"), "nm") for a in "YX"]
            overview = (view.get("sizeX"), view.get("sizeY")) == whole
            calibration = Calibration(
                pixel_size_um=(None, sizes[0], sizes[1]), origin_um=(None, places[0], places[1])
            )
            found.append(ScnImage(overview, calibration))
    return found


def _pitch(length_nm: str | None, pixels: str | None) -> float | None:
    try:
        return micrometres(float(length_nm or "") / float(pixels or ""), "nm")
    except (ValueError, ZeroDivisionError):
        return None


def _qpi_name(xml: str) -> str:
    root = _parsed(xml)
    if root is None:
        return ""
    return (root.findtext("Biomarker") or root.findtext("Name") or "").strip()


def _size(rational: object) -> float | None:
    value = _ratio(rational)
    return None if not value else micrometres(1 / value, "cm")


def _ratio(rational: object) -> float | None:
    if not isinstance(rational, tuple) or len(rational) != 2 or not rational[1]:
        return None
    return float(rational[0]) / float(rational[1])


def _parsed(xml: str) -> ElementTree.Element | None:
    try:
        return ElementTree.fromstring(xml.strip("\0 \n"))
    except (ElementTree.ParseError, ValueError):
        return None


def _tag(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]
