"""What is shown of one image: all of it, and of a large one the densest part in full."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.box import Box
from pipeline.label_rows import segmented_channels
from pipeline.manifest import ImageRow
from pipeline.output import FRAGMENTS
from pipeline.report.planes import MOST_PX, Level, Picture, label_levels
from pipeline.report.thumbnails import (
    SIDE,
    Canvas,
    Thumbnail,
    contrast,
    draw,
    edges,
    flat_colours,
    tint,
)

log = logging.getLogger(__name__)

Pixels = NDArray[Any]

#: An image up to this many times larger than its thumbnail is judged by the thumbnail alone.
JUDGED_SHRUNK = 1.5
#: Without a pyramid the densest part is looked for in the middle, in a square of this side.
SEARCHED_PX = 2048


@dataclass(frozen=True, slots=True)
class View:
    """One picture.

    Parameters
    ----------
    thumbnail : Thumbnail
    box : Box
        What it shows, (y, x) in px of level 0.
    with_pixels : bool
        False where only the labels could be read.
    """

    thumbnail: Thumbnail
    box: Box
    with_pixels: bool


@dataclass(frozen=True, slots=True)
class Views:
    """The pictures of one image; either may be missing."""

    overview: View | None
    crop: View | None


@dataclass(frozen=True, slots=True)
class Outlined:
    """What is outlined.

    Parameters
    ----------
    labels, fragments : list of Level
        The finest first; no fragments where nothing was merged.
    """

    labels: list[Level]
    fragments: list[Level]

    def finer(self, level: int, box: Box) -> Pixels | None:
        """What the labels of a box were merged from."""
        return self.fragments[level].read(box) if level < len(self.fragments) else None


def make_views(row: ImageRow, recipe: dict[str, Any]) -> Views:
    """Read and draw one published image.

    Parameters
    ----------
    row : ImageRow
    recipe : dict
        The recipe of the run.
    """
    fragments = label_levels(row, FRAGMENTS) if row.details.get("graph") else []
    levels = Outlined(label_levels(row), fragments)
    picture = _open(row, recipe["source"]["missing_chunks"])
    colors = [color for _, *color in row.details.get("classes", [])]
    if picture is None:
        return _views(levels, None, (), colors)
    with closing(picture):
        return _views(
            levels,
            picture,
            shown_channels(picture.channels, segmented_channels(recipe, str(row.details["label"]))),
            colors,
        )


def shown_channels(names: Sequence[str], wanted: Sequence[int | str]) -> tuple[int, ...]:
    """Red, green and blue as colours; else the first channel that was segmented, as grey."""
    if tuple(names[:3]) == ("red", "green", "blue"):
        return 0, 1, 2
    first = wanted[0] if wanted else 0
    if first in names:
        return (list(names).index(str(first)),)
    return (first,) if isinstance(first, int) and 0 <= first < len(names) else (0,)


def densest(labels: Pixels, side: int) -> tuple[int, int]:
    """Middle (y, x) of the square of `side` px that holds most outlines; the first of equals."""
    counts = np.pad(edges(labels).astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    height, width = (min(side, n) for n in labels.shape)
    inside = (
        counts[height:, width:]
        - counts[:-height, width:]
        - counts[height:, :-width]
        + counts[:-height, :-width]
    )
    best = inside.max()
    if not best:
        return labels.shape[0] // 2, labels.shape[1] // 2
    y, x = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(y) + height // 2, int(x) + width // 2


def _open(row: ImageRow, missing_chunks: str) -> Picture | None:
    try:
        return Picture(row, missing_chunks)
    except Exception as error:  # whatever happened to the archive, the labels can be shown
        log.info("report: %s is shown without its pixels: %s", row.name, error)
        return None


def _views(
    outlined: Outlined,
    picture: Picture | None,
    channels: tuple[int, ...],
    colors: Sequence[Sequence[int]],
) -> Views:
    levels = outlined.labels
    shape = levels[0].shape
    number = max((k for k, level in enumerate(levels) if max(level.shape) >= SIDE), default=0)
    if math.prod(levels[number].shape) <= MOST_PX:
        searched = Box.whole(levels[number].shape)
    else:
        middle = shape[0] // 2, shape[1] // 2
        number, searched = 0, _square(middle, SEARCHED_PX, shape)
    labels = levels[number].read(searched)
    overview = crop = None
    if searched == Box.whole(levels[number].shape):
        canvas = _canvas(labels, picture, channels, None)
        drawn = _drawn(canvas[0], labels, colors, outlined.finer(number, searched))
        overview = View(drawn, Box.whole(shape), canvas[1])
    if max(shape) > JUDGED_SHRUNK * SIDE:
        y, x = densest(labels, max(1, SIDE >> number))
        at = (y + searched.start[0]) << number, (x + searched.start[1]) << number
        box = _square(at, SIDE, shape)
        labels = levels[0].read(box)
        canvas = _canvas(labels, picture, channels, box)
        crop = View(_drawn(canvas[0], labels, colors, outlined.finer(0, box)), box, canvas[1])
    return Views(overview, crop)


def _drawn(
    canvas: Canvas, labels: Pixels, colors: Sequence[Sequence[int]], finer: Pixels | None
) -> Thumbnail:
    """Objects in outlines; classes in their colours."""
    if not colors:
        return draw(canvas, labels, finer)
    return draw(tint(canvas, labels, colors), np.zeros_like(labels))


def _canvas(
    labels: Pixels, picture: Picture | None, channels: tuple[int, ...], box: Box | None
) -> tuple[Canvas, bool]:
    """What outlines are drawn on: the pixels of a box or of the whole plane, or plain colours."""
    try:
        if picture is None:
            return flat_colours(labels), False
        if box is not None:
            return contrast(picture.crop(box, channels)), True
        pixels = picture.overview(max(labels.shape), channels)
    except Exception as error:  # a damaged chunk must not hide the labels
        log.info("report: pixels cannot be read: %s", error)
        pixels = None
    return (flat_colours(labels), False) if pixels is None else (contrast(pixels), True)


def _square(middle: tuple[int, int], side: int, shape: tuple[int, int]) -> Box:
    """A square of `side` around a point, moved to lie in the image."""
    start = [max(0, min(m - side // 2, n - side)) for m, n in zip(middle, shape, strict=True)]
    stop = [min(a + side, n) for a, n in zip(start, shape, strict=True)]
    return Box(tuple(start), tuple(stop))
