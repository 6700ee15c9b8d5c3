"""Drawing labels and truth over an image: who is right, what was missed, what was invented.

A line of the truth lies within its object and one of a label around it, so that both are seen where
they agree. What was missed is filled, what was invented is striped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.report.thumbnails import Canvas, Thumbnail, encoded, tint
from pipeline.scores.worst import Wrong

Array = NDArray[Any]
Mask = NDArray[np.bool_]
Color = tuple[int, int, int]

#: Longest side of a picture, px, and its largest file.
SIDE = 768
MOST_BYTES = 150_000
#: Width of a stripe in px of the picture.
STRIPE = 5
#: How much of a pixel is covered where an object was missed.
FILL = 0.4
#: An image is dimmed this much beneath lines.
DIMMED = 0.85


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours of lines and fills, 0 to 255."""

    truth: Color
    labels: Color
    missed: Color
    invented: Color


ON_DARK = Palette((0, 214, 255), (255, 145, 30), (255, 40, 160), (255, 230, 0))
ON_BRIGHT = Palette((0, 215, 90), (190, 70, 0), (225, 0, 110), (125, 190, 0))
#: Stripes over what is not annotated.
UNKNOWN: Color = (128, 128, 128)
#: Classes that have no colours of their own.
CLASS_COLORS: tuple[Color, ...] = (
    *((86, 180, 233), (230, 159, 0), (0, 158, 115), (204, 121, 167)),
    *((240, 228, 66), (0, 114, 178), (213, 94, 0), (150, 150, 150)),
)


def class_colors(count: int) -> list[Color]:
    """Colours of classes that have none of their own."""
    return [CLASS_COLORS[i % len(CLASS_COLORS)] for i in range(count)]


def palette_of(canvas: Canvas) -> Palette:
    """Colours that are seen on an image."""
    return ON_BRIGHT if float(canvas.mean()) > 127 else ON_DARK


def enlargement(shape: Sequence[int]) -> int:
    """How many px of the picture a pixel is wide."""
    return max(1, min(16, SIDE // max(shape)))


def plain(canvas: Canvas) -> Thumbnail:
    """The image alone, as large as the others."""
    return _picture(_large(canvas, enlargement(canvas.shape[:2])))


def draw_objects(canvas: Canvas, truth: Array, labels: Array, wrong: Wrong) -> Thumbnail:
    """Draw both over the image.

    Parameters
    ----------
    canvas : ndarray of shape (Y, X, 3), uint8
    truth, labels : ndarray of shape (Y, X)
    wrong : Wrong
        Which of their objects have no partner.
    """
    k = enlargement(truth.shape)
    colors = palette_of(canvas)
    missed = np.isin(truth, wrong.missed) & (truth != 0)
    invented = np.isin(labels, wrong.invented) & (labels != 0)
    shown = _large(canvas, k).astype(np.float64) * (DIMMED if colors is ON_DARK else 1.0)
    large = _enlarged(missed, k)
    shown[large] = (1 - FILL) * shown[large] + FILL * np.array(colors.missed)
    shown[_enlarged(invented, k) & _stripes(large.shape)] = colors.invented
    lines = (
        (truth, ~missed, False, colors.truth),
        (labels, ~invented, True, colors.labels),
        (truth, missed, False, colors.missed),
        (labels, invented, True, colors.invented),
    )
    for numbers, chosen, around, color in lines:
        shown[_outlines(np.where(chosen, numbers, 0), k, around)] = color
    return _picture(shown.round().astype(np.uint8))


def draw_classes(canvas: Canvas, classes: Array, colors: Sequence[Sequence[int]]) -> Thumbnail:
    """A map of classes over the image; 0 is left as it is."""
    k = enlargement(classes.shape)
    return _picture(_large(tint(canvas, classes, colors), k))


def draw_wrong(canvas: Canvas, truth: Array, labels: Array) -> Thumbnail:
    """Pixels of the wrong class, filled; those that are not annotated, striped."""
    k = enlargement(truth.shape)
    colors = palette_of(canvas)
    shown = _large(canvas, k)
    shown[_enlarged((truth != 0) & (truth != labels), k)] = colors.missed
    unknown = _enlarged(truth == 0, k)
    shown[unknown & _stripes(unknown.shape)] = UNKNOWN
    return _picture(shown)


def _outlines(numbers: Array, k: int, around: bool) -> Mask:
    """Lines one px of the picture wide: just within objects, or just around them."""
    large = np.pad(_enlarged(numbers, k), 1, mode="edge")
    middle = large[1:-1, 1:-1]
    found = np.zeros(middle.shape, bool)
    height, width = middle.shape
    for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
        other = large[dy : dy + height, dx : dx + width]
        found |= (other != middle) & ((other if around else middle) != 0)
    return found


def _stripes(shape: Sequence[int]) -> Mask:
    y, x = np.indices(tuple(shape), sparse=True)
    stripes: Mask = (y + x) // STRIPE % 3 == 0
    return stripes


def _enlarged(image: Array, k: int) -> Array:
    return image.repeat(k, 0).repeat(k, 1)


def _large(canvas: Canvas, k: int) -> Canvas:
    """Every pixel as a square, for it is pixels that are judged."""
    return np.ascontiguousarray(_enlarged(canvas, k))


def _picture(shown: Canvas) -> Thumbnail:
    image = Image.fromarray(shown)
    return Thumbnail(encoded(image, lossless=False, most_bytes=MOST_BYTES), *image.size)
