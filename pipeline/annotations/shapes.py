"""Boxes and scribbles of an image: clipped at its border, and drawn into pixels.

A scribble is the pixels on the way between its vertices. Every other shape stands for its bounding
box: the pixels that it covers, be it in part.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.draw import line

from pipeline.annotations.shape_files import Shape, read_file
from pipeline.box import Box
from pipeline.companions import Companion
from pipeline.errors import MethodError
from pipeline.image import ImageInfo


@dataclass(frozen=True, slots=True)
class ShapeFiles:
    """Where the shapes of an image are.

    Parameters
    ----------
    boxes : Companion
        Boxes, and scribbles of the foreground unless they say that they are background.
    background : Companion or None
        Scribbles of the background.
    info : ImageInfo
        Of the image.
    image : str
        Its name, for messages.
    """

    boxes: Companion
    background: Companion | None
    info: ImageInfo
    image: str


@dataclass(frozen=True, slots=True)
class Shapes:
    """Boxes and scribbles of an image, not to be written to.

    Parameters
    ----------
    boxes : ndarray of shape (n, 5), int64
        (frame, y_start, x_start, y_stop, x_stop) of each in the order of the file, clipped at the
        image; frame = t * Z + z.
    marked : ndarray of shape (m,), int64
        Linear indices of the scribbles' pixels over all frames, ascending, each once.
    foreground : ndarray of shape (m,), bool
        What they mark; background where both were drawn.
    """

    boxes: NDArray[np.int64]
    marked: NDArray[np.int64]
    foreground: NDArray[np.bool_]

    def box(self, number: int) -> Box:
        """Box of a number, within its frame."""
        edges = tuple(self.boxes[number].tolist())
        return Box(edges[1:3], edges[3:5])

    def marks(self, frame: int, box: Box, shape: tuple[int, ...]) -> Iterator[NDArray[np.intp]]:
        """Foreground's, then background's (y, x) in a box of a frame of `shape` (Y, X).

        Yields
        ------
        ndarray of shape (2, k), intp
            Counted from the box's corner.
        """
        ends = [(frame * shape[0] + y) * shape[1] for y in (box.start[0], box.stop[0])]
        first, last = np.searchsorted(self.marked, ends)
        y, x = np.divmod(self.marked[first:last] - ends[0], shape[1])
        inside = (x >= box.start[1]) & (x < box.stop[1])
        for wanted in (True, False):
            kept = inside & (self.foreground[first:last] == wanted)
            yield np.stack([y[kept], x[kept] - box.start[1]])


@functools.lru_cache(maxsize=16)
def read_shapes(files: ShapeFiles) -> Shapes:
    """Read the boxes and scribbles of an image.

    Raises
    ------
    MethodError
        If a file is damaged, or a shape lies outside the image or holds no pixel.
    """
    own, other = files.boxes, files.background
    shapes = list(read_file(own, files.info, files.image))
    boxes = [shape for shape in shapes if not shape.is_line]
    edges = [_edges(shape, k, own.path, files) for k, shape in enumerate(boxes, 1)]
    lines = [shape for shape in shapes if shape.is_line]
    pixels = [_pixels(shape, k, own.path, files) for k, shape in enumerate(lines, 1)]
    kinds = [not shape.is_background for shape in lines]
    if other is not None:
        lines = _only_lines(other, files)
        pixels += [_pixels(shape, k, other.path, files) for k, shape in enumerate(lines, 1)]
        kinds += [False] * len(lines)
    marked = np.concatenate([np.empty(0, np.int64), *pixels])
    foreground = np.repeat(np.array(kinds, bool), [len(p) for p in pixels])
    order = np.lexsort((foreground, marked))  # background comes first and is kept
    marked, first = np.unique(marked[order], return_index=True)
    found = Shapes(np.array(edges, np.int64).reshape(-1, 5), marked, foreground[order][first])
    for array in (found.boxes, found.marked, found.foreground):
        array.flags.writeable = False
    return found


def _only_lines(companion: Companion, files: ShapeFiles) -> list[Shape]:
    shapes = list(read_file(companion, files.info, files.image))
    if not all(shape.is_line for shape in shapes):
        raise MethodError(
            files.image,
            f"{companion.path} holds a box, but background is marked by lines",
            "Draw lines or paths there, and keep boxes in the file of boxes.",
        )
    return shapes


def _edges(shape: Shape, number: int, path: str, files: ShapeFiles) -> list[int]:
    """(frame, y_start, x_start, y_stop, x_stop) of a box, clipped at the image."""
    start, stop = np.floor(shape.vertices.min(axis=0)), np.ceil(shape.vertices.max(axis=0))
    what = f"box {number} of {path}"
    if (start == stop).any():
        raise MethodError(
            files.image,
            f"{what} holds no pixel: {_said(start, stop)}",
            "Correct the file; a box ends at the first pixel behind it.",
        )
    frame = _frame(what, shape.frame, start, stop, files)
    clipped = [*np.maximum(start, 0), *np.minimum(stop, files.info.shape[-2:])]
    return [frame, *(int(edge) for edge in clipped)]


def _pixels(shape: Shape, number: int, path: str, files: ShapeFiles) -> NDArray[np.int64]:
    """Linear indices of a scribble; vertices outside count as the nearest pixel of the image."""
    vertices = np.floor(shape.vertices)
    what = f"scribble {number} of {path}"
    frame = _frame(what, shape.frame, vertices.min(axis=0), vertices.max(axis=0) + 1, files)
    height, width = files.info.shape[-2:]
    places = np.clip(vertices, 0, (height - 1, width - 1)).astype(np.int64)
    ways = [line(*a, *b) for a, b in itertools.pairwise(places)]
    y, x = np.concatenate([places[:1].T, *map(np.stack, ways)], axis=1)
    return np.asarray((frame * height + y) * width + x, np.int64)


def _frame(
    what: str,
    place: tuple[int, int],
    start: NDArray[np.float64],
    stop: NDArray[np.float64],
    files: ShapeFiles,
) -> int:
    """Number of the frame (t, z); refuse what lies outside the image."""
    frames, _, depth, *limit = files.info.shape
    t, z = place
    is_apart = (stop <= 0).any() or (start >= limit).any()
    if is_apart or not (0 <= t < frames and 0 <= z < depth):
        raise MethodError(
            files.image,
            f"{what} is at t {t}, z {z}, {_said(start, stop)}, outside the image of "
            f"(t, z, y, x) = {(frames, depth, *limit)} px",
            "Correct the file; positions are in pixels, from 0.",
        )
    return t * depth + z


def _said(start: NDArray[np.float64], stop: NDArray[np.float64]) -> str:
    return f"y {start[0]:.0f} to {stop[0]:.0f}, x {start[1]:.0f} to {stop[1]:.0f}"
