"""The worst images, drawn."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.box import Box
from pipeline.report.thumbnails import Canvas, Thumbnail, contrast
from pipeline.report.views import shown_channels
from pipeline.scores.drawing import (
    Palette,
    class_colors,
    draw_classes,
    draw_objects,
    draw_wrong,
    palette_of,
    plain,
)
from pipeline.scores.open_pair import OpenPair
from pipeline.scores.pairing import Pair
from pipeline.scores.settings import Settings
from pipeline.scores.stream import Order, count_tiles
from pipeline.scores.verdicts import judge
from pipeline.scores.worst import Window, Wrong, find_window, read_window
from pipeline.sources import SourceSpec, open_source

log = logging.getLogger(__name__)

Array = NDArray[Any]

#: Grey of objects where the image is not known.
OBJECT_GREY, GREY = 70, 30


@dataclass(frozen=True, slots=True)
class Case:
    """Pictures of one window of an image.

    Parameters
    ----------
    window : Window
    is_whole : bool
        The window is all of its plane.
    pictures : list of (str, Thumbnail)
        What is seen, and the picture.
    counts : tuple of int
        Missed and invented objects that the window shows, or wrong and judged pixels.
    palette : Palette
        Of its lines.
    """

    window: Window
    is_whole: bool
    pictures: list[tuple[str, Thumbnail]]
    counts: tuple[int, int]
    palette: Palette


def draw_case(pair: Pair, settings: Settings, picture: SourceSpec | None) -> Case:
    """Read an image once more, and draw where most went wrong.

    Parameters
    ----------
    pair : Pair
    settings : Settings
    picture : SourceSpec or None
        Where the pixels are; None: what the labels say, then nothing but outlines.

    Raises
    ------
    ImageError
        It cannot be read any more.
    """
    verdicts = None
    if not settings.classes:
        few = replace(settings, tolerance_px=0)  # borders are not wanted again
        verdicts = judge(count_tiles(Order(pair, few)).candidates)
    with OpenPair(pair, settings) as images:
        window = find_window(images, verdicts)
        truth, labels = read_window(images, window)
        shape = images.labels.info.shape
    canvas = _canvas(picture or pair.labels.picture, pair.labels.channels, window, shape)
    pictures = [] if canvas is None else [("image", plain(canvas))]
    if canvas is None:
        grey = np.where((truth != 0) | (labels != 0), OBJECT_GREY, GREY).astype(np.uint8)
        canvas = np.ascontiguousarray(np.repeat(grey[..., None], 3, axis=2))
    if verdicts is None:
        pictures += _class_pictures(canvas, truth, labels, pair, settings)
        judged = truth != 0
        counts = int((judged & (truth != labels)).sum()), int(judged.sum())
    else:
        wrong = Wrong.of_frame(verdicts, window.frame)
        pictures.append(("truth and labels", draw_objects(canvas, truth, labels, wrong)))
        counts = _seen(truth, wrong.missed), _seen(labels, wrong.invented)
    whole = window.box == Box.whole(shape[-2:])
    return Case(window, whole, pictures, counts, palette_of(canvas))


def _class_pictures(
    canvas: Canvas, truth: Array, labels: Array, pair: Pair, settings: Settings
) -> list[tuple[str, Thumbnail]]:
    colors = pair.labels.colors or class_colors(len(settings.classes))
    return [
        ("truth", draw_classes(canvas, truth, colors)),
        ("labels", draw_classes(canvas, labels, colors)),
        ("wrong", draw_wrong(canvas, truth, labels)),
    ]


def _seen(image: Array, numbers: Array) -> int:
    return int(np.isin(np.unique(image[image != 0]), numbers).sum())


def _canvas(
    spec: SourceSpec | None,
    channels: Sequence[int | str],
    window: Window,
    shape: tuple[int, ...],
) -> Canvas | None:
    """The image in the window; None where it cannot be had."""
    if spec is None:
        return None
    try:
        with open_source(spec) as source:
            t, _, *space = source.info.shape
            if [t, *space] != [shape[0], *shape[2:]]:
                log.warning("%s: its shape is not that of the labels; not shown.", spec.path)
                return None
            shown = shown_channels(source.info.channels, channels)
            box = Box((window.z, *window.box.start), (window.z + 1, *window.box.stop))
            return contrast(source.read(window.t, shown, box)[:, 0])
    except Exception as error:  # a picture must not cost the scores
        log.warning("%s: no picture behind its outlines: %s", spec.path, error)
        return None
