"""Which values are black and which bright, so that every channel can be seen at once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from pipeline.box import Box
from pipeline.manifest import ImageRow
from pipeline.report.planes import Picture, Pixels
from pipeline.report.thumbnails import PERCENTILES, SIDE

log = logging.getLogger(__name__)

#: Side in px of the middle that is looked at where an image has no small level.
MIDDLE_PX = 1024

#: Lowest and highest value.
Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Contrast:
    """The brightness of a channel.

    Parameters
    ----------
    shown : (float, float)
        What becomes black and white.
    found : (float, float)
        All values that were seen: what can be chosen from at first.
    """

    shown: Range
    found: Range


def contrasts(row: ImageRow, missing_chunks: str) -> list[Contrast]:
    """The brightness of each channel, from a coarse level or the middle of the image.

    Red, green and blue have one range together, and 8 bits of them the whole: they have been
    adjusted for eyes by whoever took them.
    """
    channels = range(len(row.details["channels"]))
    whole = _whole(row.details["dtype"])
    if is_color(row) and row.details["dtype"] == "uint8":
        return [whole for _ in channels]
    try:
        with closing(Picture(row, missing_chunks)) as picture:
            pixels = picture.overview(SIDE, channels)
            if pixels is None:
                pixels = picture.crop(_middle(row.details["shape"]), channels)
    except Exception as error:  # damaged pixels are for the viewer to show, not for us to hide
        log.info("view: brightness of %s is not known: %s", row.name, error)
        return [whole for _ in channels]
    if is_color(row):
        return [_contrast(pixels) or whole for _ in channels]
    return [_contrast(pixels[channel]) or whole for channel in channels]


def is_color(row: ImageRow) -> bool:
    """Whether the channels are red, green and blue."""
    return list(row.details["channels"][:3]) == ["red", "green", "blue"]


def _contrast(pixels: Pixels) -> Contrast | None:
    values = pixels[np.isfinite(pixels)]
    if not values.size:
        return None
    low, high = (float(value) for value in np.percentile(values, PERCENTILES))
    lowest, highest = float(values.min()), float(values.max())
    if pixels.dtype.kind in "iu":  # the viewer takes whole numbers for whole numbers
        low, high = float(np.floor(low)), float(np.ceil(high))
    if not high > low:  # nearly all is background
        low, high = lowest, highest if highest > lowest else lowest + 1
    return Contrast((low, high), (min(lowest, low), max(highest, high)))


def _whole(dtype: str) -> Contrast:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return Contrast((0.0, 1.0), (0.0, 1.0))
    limits = float(np.iinfo(kind).min), float(np.iinfo(kind).max)
    return Contrast(limits, limits)


def _middle(shape: Sequence[int]) -> Box:
    start = [max(0, (n - MIDDLE_PX) // 2) for n in shape[-2:]]
    stop = [min(n, a + MIDDLE_PX) for n, a in zip(shape[-2:], start, strict=True)]
    return Box(tuple(start), tuple(stop))
