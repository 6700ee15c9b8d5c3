"""Numbers and sizes as people write them, and text as HTML has it."""

from __future__ import annotations

import html
from collections.abc import Sequence


def escaped(value: object) -> str:
    """Text for any place in the page, attributes included."""
    return html.escape(str(value), quote=True)


def whole(count: int) -> str:
    """1234567 as 1,234,567."""
    return f"{count:,}"


def decimal(value: float) -> str:
    """Three digits that matter, never an exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    if seconds < 60:
        return f"{decimal(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{whole(hours)} h {minutes:02d} min"


def image_size(shape: Sequence[int]) -> str:
    """A (T, C, Z, Y, X) shape as width × height, and what else there is more than one of."""
    t, c, z, y, x = shape
    extra = [(z, "planes"), (t, "time points"), (c, "channels")]
    parts = [f"{x} × {y} px", *(f"{n} {what}" for n, what in extra if n > 1)]
    return ", ".join(parts)


def plural(count: int, noun: str) -> str:
    """1 image, 2 images."""
    return f"{whole(count)} {noun}{'' if count == 1 else 's'}"
