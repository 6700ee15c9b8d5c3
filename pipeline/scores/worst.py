"""Where an image went most wrong: the window with the most missed and invented objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.box import Box
from pipeline.grid import Tile
from pipeline.scores.contingency import Ints, Numbers
from pipeline.scores.open_pair import OpenPair
from pipeline.scores.verdicts import KINDS, Verdicts

Array = NDArray[Any]
Floats = NDArray[np.float64]
Shape = tuple[int, int]

#: Side of a window in px; smaller images are shown whole.
SIDE_PX = 384
#: Windows begin at every fourth of their side, or, in very large images, at one of so many places.
STEPS = 4
MOST_PLACES = 512


@dataclass(frozen=True, slots=True)
class Window:
    """A part of one plane.

    Parameters
    ----------
    frame : int
        Number of the frame.
    t, z : int
    box : Box
        (y, x) in px.
    """

    frame: int
    t: int
    z: int
    box: Box


@dataclass(frozen=True, slots=True)
class Wrong:
    """Numbers of the objects of one frame that were missed, or invented; sorted."""

    missed: Numbers
    missed_px: Ints
    invented: Numbers
    invented_px: Ints

    @classmethod
    def of_frame(cls, verdicts: Verdicts, frame: int) -> Wrong:
        here = verdicts.frame == frame
        missed = here & (verdicts.kind == KINDS.index("missed"))
        invented = here & (verdicts.kind == KINDS.index("invented"))
        return cls(
            *_sorted(verdicts.truth[missed], verdicts.truth_px[missed]),
            *_sorted(verdicts.label[invented], verdicts.label_px[invented]),
        )

    def weights(self, truth: Array, labels: Array) -> Floats:
        """A number a pixel, which sums to 1 over every wrong object."""
        return _shares(truth, self.missed, self.missed_px) + _shares(
            labels, self.invented, self.invented_px
        )


def find_window(images: OpenPair, verdicts: Verdicts | None) -> Window:
    """Look for the window where most went wrong; the first of equals.

    Parameters
    ----------
    images : OpenPair
        Read once more, tile by tile.
    verdicts : Verdicts or None
        None for maps of classes: there, wrong pixels count.
    """
    _, _, planes, *plane = images.labels.info.shape
    shape = (plane[0], plane[1])
    cell = _cell(shape)
    most, found = -1.0, Window(0, 0, 0, _window(0, 0, shape, cell))
    for frame, z, cells in _planes(images, verdicts, shape, cell):
        y, x, score = _best(cells)
        if score > most:
            t, at = divmod(frame, planes) if images.ndim == 2 else (frame, z)
            most, found = score, Window(frame, t, at, _window(y, x, shape, cell))
    return found


def read_window(images: OpenPair, window: Window) -> tuple[Array, Array]:
    """Truth and labels of a window, of shape (Y, X)."""
    core = window.box
    if images.ndim == 3:
        core = Box((window.z, *core.start), (window.z + 1, *core.stop))
    truth, labels, _ = images.read(Tile(0, window.frame, (), core), 0)
    shape = window.box.shape
    return truth.reshape(shape), labels.reshape(shape)


def _planes(
    images: OpenPair, verdicts: Verdicts | None, shape: Shape, cell: int
) -> Iterator[tuple[int, int, Floats]]:
    """Frame, plane within it, and what is wrong in every cell of the plane."""
    counts = [-(-n // cell) for n in shape]
    cells = np.zeros((0, *counts))
    last: tuple[int, int] | None = None
    wrong: Wrong | None = None
    for tile in images.grid.tiles():
        z = tile.core.start[0] if images.ndim == 3 else 0
        if last != (tile.frame, z):
            if last is not None:
                yield from ((last[0], last[1] + k, plane) for k, plane in enumerate(cells))
            if verdicts is not None and (last is None or last[0] != tile.frame):
                wrong = Wrong.of_frame(verdicts, tile.frame)
            depth = tile.core.shape[0] if images.ndim == 3 else 1
            cells, last = np.zeros((depth, *counts)), (tile.frame, z)
        truth, labels, _ = images.read(tile, 0)
        weights = wrong.weights(truth, labels) if wrong else (truth != 0) & (truth != labels)
        _add(cells, np.asarray(weights, np.float64), tile.core.start[-2:], cell)
    if last is not None:
        yield from ((last[0], last[1] + k, plane) for k, plane in enumerate(cells))


def _add(cells: Floats, weights: Floats, start: tuple[int, ...], cell: int) -> None:
    """Add the pixels of a tile, which begins at `start` of the plane, to its cells."""
    stack = weights.reshape(-1, *weights.shape[-2:])
    rows = (np.arange(stack.shape[1]) + start[0]) // cell
    columns = (np.arange(stack.shape[2]) + start[1]) // cell
    first_row = np.flatnonzero(np.diff(rows, prepend=-1))
    first_column = np.flatnonzero(np.diff(columns, prepend=-1))
    sums = np.add.reduceat(np.add.reduceat(stack, first_row, axis=1), first_column, axis=2)
    cells[:, rows[first_row][:, None], columns[first_column]] += sums


def _best(cells: Floats) -> tuple[int, int, float]:
    """First cell (y, x) of the window with the largest sum, and the sum."""
    sums = np.pad(cells.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    tall, wide = (min(STEPS, n) for n in cells.shape)
    inside = (
        sums[tall:, wide:] - sums[:-tall, wide:] - sums[tall:, :-wide] + sums[:-tall, :-wide]
    ).round(6)
    y, x = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(y), int(x), float(inside[y, x])


def _cell(shape: Shape) -> int:
    return max(SIDE_PX // STEPS, -(-max(shape) // MOST_PLACES))


def _window(y: int, x: int, shape: Shape, cell: int) -> Box:
    """A window around the middle of `STEPS` cells from a first one on, moved into the image."""
    start = []
    for first, n in zip((y, x), shape, strict=True):
        middle = first * cell + STEPS * cell // 2
        start.append(max(0, min(middle - SIDE_PX // 2, n - SIDE_PX)))
    stop = [min(a + SIDE_PX, n) for a, n in zip(start, shape, strict=True)]
    return Box(tuple(start), tuple(stop))


def _sorted(numbers: Numbers, pixels: Ints) -> tuple[Numbers, Ints]:
    order = np.argsort(numbers)
    return numbers[order], pixels[order]


def _shares(image: Array, numbers: Numbers, pixels: Ints) -> Floats:
    """1 / size at the pixels of some objects, else 0."""
    if not len(numbers):
        return np.zeros(image.shape)
    wanted = image.astype(np.uint64)
    at = np.searchsorted(numbers, wanted).clip(max=len(numbers) - 1)
    return np.where(numbers[at] == wanted, 1 / pixels[at], 0.0)
