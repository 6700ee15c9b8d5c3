"""Lengths and times as files spell them, turned into micrometres and seconds."""

from __future__ import annotations

import math

# OME-XML symbols, OME-Zarr (UDUNITS-2) names, and what ImageJ users type.
MICROMETRES = {
    **dict.fromkeys(("µm", "μm", "um", "micron", "microns", "micrometer", "micrometre"), 1.0),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-3),
    **dict.fromkeys(("pm", "picometer", "picometre"), 1e-6),
    **dict.fromkeys(("å", "angstrom"), 1e-4),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e3),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 1e4),
    **dict.fromkeys(("m", "meter", "metre"), 1e6),
}
SECONDS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millisecond"), 1e-3),
    **dict.fromkeys(("µs", "μs", "us", "microsecond"), 1e-6),
    **dict.fromkeys(("ns", "nanosecond"), 1e-9),
    **dict.fromkeys(("min", "minute"), 60.0),
    **dict.fromkeys(("h", "hr", "hour"), 3600.0),
    **dict.fromkeys(("d", "day"), 86400.0),
}


def micrometres(value: object, unit: str) -> float | None:
    """`value` in um; None where the unit is no length, or the value is no positive number."""
    return _scaled(value, MICROMETRES.get(_plain(unit)))


def position_um(value: object, unit: str) -> float | None:
    """`value` in um as a place, which may be negative; None where the unit is no length."""
    factor = MICROMETRES.get(_plain(unit))
    if factor is None or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value) * factor
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def seconds(value: object, unit: str) -> float | None:
    """`value` in s; None where the unit is no time, or the value is no positive number."""
    return _scaled(value, SECONDS.get(_plain(unit)))


def _plain(unit: str) -> str:
    # ImageJ writes the micro sign as a six-character escape into an ASCII tag.
    return unit.replace("\\u00B5", "µ").replace("\\u00b5", "µ").strip("\0 ").lower()


def _scaled(value: object, factor: float | None) -> float | None:
    if factor is None or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value) * factor
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None
