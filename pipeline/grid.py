"""Frames and tiles of one image.

An image is segmented *frame* by frame: a frame is one plane (t, z) in 2D or one volume (t) in 3D.
Objects never cross frames. A frame is cut into *cores* that do not overlap; a method sees a core
through a *window*, the core grown by a halo and clipped at the frame's border.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.box import Box
from pipeline.image import ImageInfo


@dataclass(frozen=True, slots=True)
class Tile:
    """One core of one frame.

    Parameters
    ----------
    number : int
        Position among all tiles of the image, in raster order (frame, then grid).
    frame : int
        Number of the frame.
    index : tuple of int
        Position in the frame's grid of tiles.
    core : Box
        Pixels of the frame that this tile alone writes.
    """

    number: int
    frame: int
    index: tuple[int, ...]
    core: Box


@dataclass(frozen=True, slots=True)
class TileGrid:
    """The regular cut of an image's frames into tiles.

    Parameters
    ----------
    frames : int
        Number of frames.
    shape : tuple of int
        (Y, X) or (Z, Y, X) of a frame in px.
    side : tuple of int
        Size of a core in px; cores at the end of an axis are smaller.
    """

    frames: int
    shape: tuple[int, ...]
    side: tuple[int, ...]

    @classmethod
    def of(cls, info: ImageInfo, ndim: int, side: int) -> TileGrid:
        """Cut an image into cores of `side` px; `ndim` is 2 (planes) or 3 (volumes)."""
        t, _, z, y, x = info.shape
        shape = (y, x) if ndim == 2 else (z, y, x)
        return cls(t * z if ndim == 2 else t, shape, tuple(min(side, n) for n in shape))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def frame_box(self) -> Box:
        return Box.whole(self.shape)

    @property
    def pixels(self) -> int:
        """Pixels of all frames, one channel."""
        return self.frames * math.prod(self.shape)

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of tiles along each axis of a frame."""
        return tuple(-(-n // s) for n, s in zip(self.shape, self.side, strict=True))

    @property
    def tiles_per_frame(self) -> int:
        return math.prod(self.counts)

    def __len__(self) -> int:
        return self.frames * self.tiles_per_frame

    def tile(self, number: int) -> Tile:
        """The tile at a position in raster order."""
        frame, rest = divmod(number, self.tiles_per_frame)
        index: list[int] = []
        for count in reversed(self.counts):
            rest, i = divmod(rest, count)
            index.append(i)
        return self._tile(number, frame, tuple(reversed(index)))

    def tiles(self) -> Iterator[Tile]:
        for number in range(len(self)):
            yield self.tile(number)

    def neighbour(self, tile: Tile, direction: tuple[int, ...]) -> Tile | None:
        """The tile one step along `direction` (-1, 0 or 1 an axis), None behind the border."""
        index = tuple(i + d for i, d in zip(tile.index, direction, strict=True))
        if any(not 0 <= i < n for i, n in zip(index, self.counts, strict=True)):
            return None
        number = 0
        for i, count in zip(index, self.counts, strict=True):
            number = number * count + i
        return self._tile(tile.frame * self.tiles_per_frame + number, tile.frame, index)

    def touching(self, frame: int, box: Box) -> Iterator[Tile]:
        """Tiles of a frame whose cores share pixels with `box`, in raster order."""
        ranges = [
            range(a // s, -(-b // s))
            for a, b, s in zip(box.start, box.stop, self.side, strict=True)
        ]
        yield from self._at(frame, ranges)

    def beginning_in(self, frame: int, box: Box) -> Iterator[Tile]:
        """Tiles of a frame whose first pixel lies in `box`, in raster order."""
        ranges = [
            range(-(-a // s), -(-b // s))
            for a, b, s in zip(box.start, box.stop, self.side, strict=True)
        ]
        yield from self._at(frame, ranges)

    def band(self, tile: Tile) -> int:
        """Number of the tile's band: all anchors of one band precede those of the next."""
        return tile.frame * self.counts[0] + tile.index[0]

    def bands(self) -> list[list[int]]:
        """Numbers of the tiles of every band."""
        tiles = itertools.groupby(range(len(self)), lambda n: self.band(self.tile(n)))
        return [list(group) for _, group in tiles]

    def _at(self, frame: int, ranges: Sequence[range]) -> Iterator[Tile]:
        for index in itertools.product(*ranges):
            number = 0
            for i, count in zip(index, self.counts, strict=True):
                number = number * count + i
            yield self._tile(frame * self.tiles_per_frame + number, frame, index)

    def _tile(self, number: int, frame: int, index: tuple[int, ...]) -> Tile:
        start = tuple(i * s for i, s in zip(index, self.side, strict=True))
        stop = tuple(min(a + s, n) for a, s, n in zip(start, self.side, self.shape, strict=True))
        return Tile(number, frame, index, Box(start, stop))


def linear_index(frame: int, shape: tuple[int, ...], position: tuple[int, ...]) -> int:
    """Raster position of a pixel among all pixels of all frames of `shape`."""
    index = frame
    for p, n in zip(position, shape, strict=True):
        index = index * n + p
    return index


def linear_indices(
    frame: int, shape: tuple[int, ...], box: Box, flat: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Raster positions, among all pixels of all frames, of raster indices in a box of a frame."""
    index = np.full(len(flat), frame, np.int64)
    local = np.unravel_index(flat, box.shape)
    for position, start, n in zip(local, box.start, shape, strict=True):
        index = index * n + (position + start)
    return index
