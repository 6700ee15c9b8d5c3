"""What a TIFF dialect says of channels, pixel size and time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import tifffile

from pipeline.sources.units import micrometres, seconds


@dataclass(frozen=True, slots=True)
class Calibration:
    """Channel names, and units; empty or None where the file does not say.

    Parameters
    ----------
    channels : tuple of str
        Names, one a channel before samples.
    pixel_size_um : tuple of float or None
        (z, y, x) in micrometres.
    time_step_s : float or None
        Seconds between time points.
    origin_um : tuple of float or None
        (z, y, x) of the first pixel on the stage, in micrometres.
    """

    channels: tuple[str, ...] = ()
    pixel_size_um: tuple[float | None, float | None, float | None] = (None, None, None)
    time_step_s: float | None = None
    origin_um: tuple[float | None, float | None, float | None] = (None, None, None)


def read_imagej(metadata: Mapping[str, object], page: tifffile.TiffPage) -> Calibration:
    """ImageJ: resolution tags count pixels a `unit`; "inch" and none are print sizes, no scale."""
    unit = str(metadata.get("unit", ""))
    x = _inverse(page.tags.valueof("XResolution"))
    y = _inverse(page.tags.valueof("YResolution"))
    spacing = metadata.get("spacing")
    return Calibration(
        pixel_size_um=(
            micrometres(abs(spacing) if isinstance(spacing, (int, float)) else None, unit),
            micrometres(y, str(metadata.get("yunit", unit))),
            micrometres(x, unit),
        ),
        time_step_s=seconds(metadata.get("finterval"), str(metadata.get("tunit", "s"))),
    )


def read_lsm(metadata: Mapping[str, object]) -> Calibration:
    """Zeiss LSM: voxel sizes in metres."""
    z, y, x = (micrometres(metadata.get(f"VoxelSize{axis}"), "m") for axis in "ZYX")
    return Calibration(
        pixel_size_um=(z, y, x), time_step_s=seconds(metadata.get("TimeIntervall"), "s")
    )


def read_aperio(description: str) -> Calibration:
    """Aperio SVS: "MPP", micrometres a pixel, in the description."""
    items = dict(item.strip().partition("=")[::2] for item in description.split("|"))
    mpp = micrometres(next((v for k, v in items.items() if k.strip() == "MPP"), None), "um")
    return Calibration(pixel_size_um=(None, mpp, mpp))


def _inverse(rational: object) -> float | None:
    if not isinstance(rational, tuple) or len(rational) != 2:
        return None
    pixels, units = rational
    return float(units) / float(pixels) if pixels else None
