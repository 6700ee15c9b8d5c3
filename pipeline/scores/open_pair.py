"""Labels and truth that cover the same pixels, open for reading by tile."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.box import Box
from pipeline.errors import ScoreError
from pipeline.grid import Tile, TileGrid
from pipeline.scores.find import LabelImage
from pipeline.scores.pairing import Pair
from pipeline.scores.settings import Settings
from pipeline.sources import Source, open_source

Array = NDArray[Any]

#: Sides of a tile in px: of planes, and (z, y, x) of volumes.
TILE_PX = {2: (2048, 2048), 3: (32, 512, 512)}


class OpenPair:
    """Labels and truth that fit each other, open for reading.

    Parameters
    ----------
    pair : Pair
    settings : Settings

    Raises
    ------
    ImageError
        One of them cannot be opened, is no label image, or their sizes differ.
    """

    def __init__(self, pair: Pair, settings: Settings) -> None:
        self._pair, self._settings = pair, settings
        with ExitStack() as stack:
            self.labels = stack.enter_context(_open(pair.labels))
            self.truth = stack.enter_context(_open(pair.truth))
            _demand_equal_shapes(self.labels, self.truth)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def ndim(self) -> int:
        """2 or 3: a plane is no volume."""
        said = self._settings.ndim or self._pair.labels.ndim or self._pair.truth.ndim or 3
        return said if self.labels.info.shape[2] > 1 else 2

    @property
    def grid(self) -> TileGrid:
        t, _, z, y, x = self.labels.info.shape
        shape = (y, x) if self.ndim == 2 else (z, y, x)
        side = self._settings.tile_px
        sides = TILE_PX[self.ndim] if side is None else (side,) * self.ndim
        frames = t * z if self.ndim == 2 else t
        return TileGrid(frames, shape, tuple(map(min, sides, shape)))

    def read(self, tile: Tile, margin: int) -> tuple[Array, Array, tuple[slice, ...]]:
        """Read a tile and a margin.

        Returns
        -------
        truth, labels : ndarray of shape (Y, X) or (Z, Y, X), integer
        core : tuple of slice
            The tile within them.
        """
        window = tile.core.grow(margin, self.grid.frame_box)
        t, z = divmod(tile.frame, self.labels.info.shape[2]) if self.ndim == 2 else (tile.frame, 0)
        box = Box((z, *window.start), (z + 1, *window.stop)) if self.ndim == 2 else window
        names = self._settings.classes
        truth, labels = (
            _demand_numbers(source, source.read(t, (0,), box)[0].reshape(window.shape), names)
            for source in (self.truth, self.labels)
        )
        return truth, labels, tile.core.within(window)


def _open(image: LabelImage) -> Source:
    source = open_source(image.spec)
    info, path = source.info, image.spec.path
    if info.shape[1] > 1:
        source.close()
        raise ScoreError(
            path,
            f"has {info.shape[1]} channels ({', '.join(info.channels[:4])}); labels have one",
            "Save the numbers of its objects as one channel of 16 or 32 bits, without colours.",
        )
    if np.dtype(info.dtype).kind == "f":
        source.close()
        raise ScoreError(
            path,
            f"its pixels are {info.dtype}; labels are whole numbers",
            "Save it as uint16 or uint32; a probability needs a threshold first.",
        )
    return source


def _demand_equal_shapes(labels: Source, truth: Source) -> None:
    if labels.info.shape != truth.info.shape:
        raise ScoreError(
            labels.spec.path,
            f"is {_spell(labels)}, its truth {truth.spec.path} is {_spell(truth)}",
            "They must cover the same pixels: annotate at full resolution, with the same planes.",
        )


def _spell(source: Source) -> str:
    t, _, z, y, x = source.info.shape
    more = "".join(f", {n} {what}" for n, what in ((z, "planes"), (t, "times")) if n > 1)
    return f"{y} x {x} px{more}"


def _demand_numbers(source: Source, numbers: Array, classes: Sequence[str]) -> Array:
    if numbers.dtype.kind == "i" and int(numbers.min(initial=0)) < 0:
        raise ScoreError(
            source.spec.path,
            f"holds the label {int(numbers.min())}; labels are 0 (background) and more",
            "Give what must not be judged the number 0.",
        )
    if classes and int(numbers.max(initial=0)) > len(classes):
        named = ", ".join(f"{i} {name}" for i, name in enumerate(classes, start=1))
        raise ScoreError(
            source.spec.path,
            f"holds the class {int(numbers.max())}, but there are {len(classes)}: {named}",
            "Number the pixels of both like this; 0 in the truth is not judged.",
        )
    return numbers
