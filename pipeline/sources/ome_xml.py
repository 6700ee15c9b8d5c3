"""Channel names and pixel size out of the OME-XML in a TIFF file."""

from __future__ import annotations

from xml.etree import ElementTree

from pipeline.sources.tiff_calibration import Calibration
from pipeline.sources.units import micrometres, position_um, seconds


def read_ome_xml(xml: str, name: str, index: int, count: int) -> Calibration:
    """Calibration of one image of an OME-XML document.

    Parameters
    ----------
    xml : str
        The document; a broken one gives an empty calibration.
    name : str
        Name of the TIFF series.
    index, count : int
        Number of the series, and how many the TIFF has: where the document has as many images,
        they correspond by position; else by a name that only one of them has.

    Notes
    -----
    Python's expat resolves no external entities, and has limited internal ones since 2.4.1.
    """
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return Calibration()
    images = [e for e in root if _tag(e) == "Image" and _child(e, "Pixels") is not None]
    if len(images) != count:
        images, index = [e for e in images if e.get("Name", "") == name], 0
        if len(images) != 1:
            return Calibration()
    pixels = _child(images[index], "Pixels")
    return Calibration() if pixels is None else _calibration(pixels)


def metadata_elsewhere(xml: str) -> str:
    """The file that has the metadata where an OME-TIFF has only pixels; "" where it has its own."""
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return ""
    there = _child(root, "BinaryOnly")
    return "" if there is None else there.get("MetadataFile", "another file")


def _calibration(pixels: ElementTree.Element) -> Calibration:
    z, y, x = (
        micrometres(pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        for axis in "ZYX"
    )
    step = seconds(pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s"))
    names = tuple(e.get("Name", "") for e in pixels if _tag(e) == "Channel")
    return Calibration(names, (z, y, x), step, _origin(pixels))


def _origin(pixels: ElementTree.Element) -> tuple[float | None, float | None, float | None]:
    """Where the stage was at the first plane.

    A position without a unit is in "reference frame" by the schema, and in um in practice.
    """
    planes = [e for e in pixels if _tag(e) == "Plane"]
    first = min(planes, key=lambda e: [_number(e.get(f"The{a}")) for a in "TCZ"], default=None)
    if first is None:
        return None, None, None
    z, y, x = (
        position_um(first.get(f"Position{a}"), first.get(f"Position{a}Unit", "µm")) for a in "ZYX"
    )
    return z, y, x


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0


def _child(element: ElementTree.Element, tag: str) -> ElementTree.Element | None:
    return next((e for e in element if _tag(e) == tag), None)


def _tag(element: ElementTree.Element) -> str:
    # The namespace differs with every version of the schema.
    return str(element.tag).rpartition("}")[2]
