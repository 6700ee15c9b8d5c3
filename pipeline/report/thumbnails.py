"""Drawing: contrast for display only, outlines of labels, and files small enough for a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[Any]
#: Colours as (Y, X, 3), 0 to 255.
Canvas = NDArray[np.uint8]

#: Longest side in px, and largest file.
SIDE = 320
MOST_BYTES = 30_000
#: Values that become black and white.
PERCENTILES = (1.0, 99.8)
#: (quality, subsampling) of JPEG; subsampling smears thin coloured lines, so it comes last.
JPEG_TRIED = ((88, 0), (80, 0), (72, 0), (60, 0), (45, 0), (45, 2), (30, 2), (15, 2))
#: Outlines: cyan is seen on grey fluorescence, green on the pink and violet of H&E.
ON_DARK = (0, 229, 255)
ON_BRIGHT = (0, 235, 60)
#: Yellow and dark blue for what regions were merged from: they must not look like the regions.
FINER_ON_DARK = (255, 200, 0)
FINER_ON_BRIGHT = (40, 40, 150)
#: How strong outlines of what regions were merged from are beside those of the regions.
FINER = 0.45
#: How much of a pixel's colour its class gives.
TINT = 0.45


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture as the page holds it.

    Parameters
    ----------
    uri : str
        data: URI with the whole file.
    width, height : int
        px
    """

    uri: str
    width: int
    height: int


def contrast(pixels: Pixels) -> Canvas:
    """Stretch pixels for display.

    Parameters
    ----------
    pixels : ndarray of shape (C, Y, X)
        One channel is shown grey, three are red, green and blue with one common stretch.

    Returns
    -------
    ndarray of shape (Y, X, 3), uint8
        What is not a number is black; an image of one value is dark grey.
    """
    values = pixels.astype(np.float64)
    finite = values[np.isfinite(values)]
    with np.errstate(all="ignore"):
        low, high = np.percentile(finite, PERCENTILES) if finite.size else (0.0, 0.0)
    if not high > low and finite.size:  # nearly all is background, or differences overflow
        low, high = finite.min(), finite.max()
    if not high > low:
        scaled = np.where(np.isfinite(values), 0.25, 0.0)
    else:
        # Halved first: high - low of the largest numbers would be infinite.
        with np.errstate(all="ignore"):
            scaled = (np.clip(values, low, high) / 2 - low / 2) / (high / 2 - low / 2)
    grey = np.round(255 * np.clip(np.nan_to_num(scaled), 0, 1)).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(np.broadcast_to(grey, (3, *grey.shape[1:])), 0, -1))


def flat_colours(labels: Pixels) -> Canvas:
    """Objects in muted colours, for an image whose pixels cannot be read."""
    hue = labels.astype(np.uint64) * np.uint64(2654435761) % np.uint64(2**32)
    colours = np.stack(
        [(hue >> np.uint64(8 * k)) % np.uint64(90) + np.uint64(60) for k in range(3)]
    )
    shown = np.where(labels > 0, colours, 12).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(shown, 0, -1))


def edges(labels: Pixels) -> NDArray[np.bool_]:
    """Where an object ends: one px wide, also between objects that touch."""
    found = np.zeros(labels.shape, bool)
    found[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    found[:-1] |= labels[:-1] != labels[1:]
    return found


def tint(canvas: Canvas, classes: Pixels, colors: Sequence[Sequence[int]]) -> Canvas:
    """Colour an image by the class of its pixels.

    Parameters
    ----------
    canvas : ndarray of shape (Y, X, 3), uint8
        Any size: it is brought to that of the classes.
    classes : ndarray of shape (Y, X)
        0 is left as it is; class i has ``colors[i - 1]``.
    colors : sequence of (red, green, blue), 0 to 255
    """
    size = (classes.shape[1], classes.shape[0])
    under = np.asarray(Image.fromarray(canvas).resize(size, Image.Resampling.BOX), np.float64)
    palette = np.array([(0, 0, 0), *colors], np.float64)
    mixed = (1 - TINT) * under + TINT * palette[classes]
    shown = np.where(classes[..., None] > 0, mixed, under)
    return np.ascontiguousarray(np.round(shown).astype(np.uint8))


def draw(canvas: Canvas, labels: Pixels, finer: Pixels | None = None) -> Thumbnail:
    """Outline labels on an image, and fit both into `SIDE`.

    Parameters
    ----------
    canvas : ndarray of shape (Y, X, 3), uint8
        Any size: it is brought to that of the labels.
    labels : ndarray of shape (Y, X)
        Without outlines where all are 0.
    finer : ndarray of shape (Y, X), optional
        What the labels were merged from: outlined in fainter lines.
    """
    enlarged = max(1, min(32, SIDE // max(labels.shape)))
    height, width = (n * enlarged for n in labels.shape)
    shrunk = max(1.0, max(labels.shape) / SIDE)
    size = (max(1, round(width / shrunk)), max(1, round(height / shrunk)))
    smooth = Image.Resampling.BOX if enlarged == 1 else Image.Resampling.NEAREST
    image = Image.fromarray(canvas).resize(size, smooth)
    bright = float(np.asarray(image).mean()) > 127
    color = Image.new("RGB", size, ON_BRIGHT if bright else ON_DARK)
    if finer is not None:
        pale = Image.new("RGB", size, FINER_ON_BRIGHT if bright else FINER_ON_DARK)
        image.paste(pale, mask=_lines(finer, enlarged, size, FINER))
    image.paste(color, mask=_lines(labels, enlarged, size, 1.0))
    return Thumbnail(encoded(image, lossless=enlarged > 1), *size)


def _lines(labels: Pixels, enlarged: int, size: tuple[int, int], strength: float) -> Image.Image:
    """Outlines as a mask of 0 to 255."""
    large = labels.repeat(enlarged, 0).repeat(enlarged, 1)
    line = Image.fromarray(np.where(edges(large), 255, 0).astype(np.uint8))
    # A line that shrinks pales, so it is made stronger again.
    return line.resize(size, Image.Resampling.BOX).point(
        [round(strength * min(255, 1.7 * v)) for v in range(256)]
    )


def encoded(image: Image.Image, lossless: bool, most_bytes: int = MOST_BYTES) -> str:
    """A data: URI of PNG if that is small enough, else of the best JPEG that is."""
    if lossless and len(data := _file(image, "PNG", optimize=True)) <= most_bytes:
        return _uri("png", data)
    data = b""
    for quality, subsampling in JPEG_TRIED:
        # Without `optimize`, for which Pillow's buffer is too small at times ("broken data
        # stream").
        data = _file(image, "JPEG", quality=quality, subsampling=subsampling)
        if len(data) <= most_bytes:
            break
    return _uri("jpeg", data)


def _file(image: Image.Image, kind: str, **options: bool | int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
