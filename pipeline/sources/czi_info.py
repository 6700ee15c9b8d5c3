"""Channel names, scenes, pixel sizes and time step out of the XML of a CZI file."""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.etree import ElementTree

from pipeline.sources.units import micrometres, seconds

IMAGE = "Metadata/Information/Image"
SCALING = "Metadata/Scaling/Items/Distance"


@dataclass(frozen=True, slots=True)
class CziInfo:
    """What the XML says; empty or None where it does not.

    Parameters
    ----------
    channels, scenes : dict of int to str
        Names by position along C and S.
    pixel_size_um : tuple of float or None
        (z, y, x).
    time_step_s : float or None
    """

    channels: dict[int, str] = field(default_factory=dict)
    scenes: dict[int, str] = field(default_factory=dict)
    pixel_size_um: tuple[float | None, float | None, float | None] = (None, None, None)
    time_step_s: float | None = None


def read_info(xml: str) -> CziInfo:
    """Read the XML; a broken one says nothing, as pixels do not depend on it."""
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return CziInfo()
    dims = root.find(f"{IMAGE}/Dimensions")
    channels: dict[int, str] = {}
    scenes: dict[int, str] = {}
    step = None
    if dims is not None:
        for number, item in enumerate(dims.findall("Channels/Channel")):
            channels[number] = item.get("Name", "")
        for number, item in enumerate(dims.findall("S/Scenes/Scene")):
            index = item.get("Index", "")
            scenes[int(index) if index.isdecimal() else number] = item.get("Name", "")
        step = seconds(dims.findtext("T/Positions/Interval/Increment"), "s")
    shown = root.findall("Metadata/DisplaySetting/Channels/Channel")
    if not any(channels.values()) and all(item.get("Id") for item in shown):
        channels = {number: item.get("Name", "") for number, item in enumerate(shown)}
    sizes = {
        item.get("Id"): micrometres(item.findtext("Value"), "m") for item in root.findall(SCALING)
    }
    return CziInfo(channels, scenes, (sizes.get("Z"), sizes.get("Y"), sizes.get("X")), step)
