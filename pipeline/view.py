"""What a round sees of a tile: windows of pixels, scratch, and where it lies."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.box import Box
from pipeline.errors import MethodError
from pipeline.filter import PREPROCESS, Place
from pipeline.grid import Tile, TileGrid
from pipeline.image import ImageInfo
from pipeline.job import ImageJob
from pipeline.joined import WholeObjects, labels_name
from pipeline.methods.base import Context, State
from pipeline.preprocess import apply_all, final_range, natural_range, total_halo_px
from pipeline.scratch import Scratch
from pipeline.sources import Source, SourceSpec, open_source

Array = NDArray[Any]

#: Key of the surveyed value range in the state: shape (C, 2), float64, of all channels.
RANGE = "image.range"


def engine_keys(state: State) -> set[str]:
    """Keys of what views read for themselves, whatever a round reads or returns."""
    return {key for key in state if key == RANGE or key.startswith(PREPROCESS)}


def raw_range(info: ImageInfo, state: State, number: int) -> tuple[float, float]:
    """Range of a channel of the file: its dtype's, or as surveyed."""
    natural = natural_range(info.dtype)
    if natural is not None:
        return natural
    low, high = state[RANGE][number]
    return float(low), float(high)


@functools.lru_cache(maxsize=4)
def opened(source: SourceSpec, plan: str) -> Source:
    """A source, opened once a process and plan; the last four stay open."""
    return open_source(source)


class TileView:
    """A tile as a round sees it.

    Parameters
    ----------
    job : ImageJob
    tile : Tile
    scratch : Scratch
    state : dict of ndarray
        The shared state of the round.
    whole : WholeObjects, optional
        The objects that were joined before the round, see `JoinRound`.
    """

    def __init__(
        self,
        job: ImageJob,
        tile: Tile,
        scratch: Scratch,
        state: State,
        whole: WholeObjects | None = None,
    ) -> None:
        self._whole = whole
        self.job = job
        self.tile = tile
        self.scratch = scratch
        self._state = state
        self._core_pixels: dict[int, Array] = {}

    @property
    def grid(self) -> TileGrid:
        return self.job.grid

    @property
    def context(self) -> Context:
        return self.job.context

    def window(self, halo_px: int | Sequence[int] = 0) -> Box:
        """The core grown by a halo, clipped at the frame's border."""
        return self.tile.core.grow(halo_px, self.grid.frame_box)

    def raw(self, channels: Sequence[int], box: Box) -> Array:
        """Pixels as the file has them.

        Returns
        -------
        ndarray of shape (C, \\*box)
        """
        if self.tile.core.contains(box) and all(c in self._core_pixels for c in channels):
            cut = box.within(self.tile.core)
            return np.stack([self._core_pixels[c][cut] for c in channels])
        return self._read(opened(self.job.source, self.job.plan), channels, box)

    def image(self, halo_px: int = 0) -> Array:
        """Preprocessed pixels of the window, see `image_of`."""
        return self.image_of(self.window(halo_px))

    def image_of(self, box: Box) -> Array:
        """Preprocessed pixels of the segmented channels on a box of this tile's frame.

        Pixels that are not finite read as the smallest finite value of the whole image, or 0 where
        it has none; `valid_of` tells them apart.

        Returns
        -------
        ndarray of shape (C, \\*box), the dtype of `context.dtype`
        """
        steps = self.job.recipe.preprocess
        wide = box.grow(total_halo_px(steps), self.grid.frame_box)
        pixels = self.raw(self.job.channels, wide)
        if wide.contains(self.tile.core):
            self._remember(pixels, wide)
        if pixels.dtype.kind == "f":
            pixels = self._without_gaps(pixels)
        if not steps:
            return pixels
        cut = box.within(wide)
        filtered = (
            apply_all(steps, one, self._place(channel, wide)) for channel, one in enumerate(pixels)
        )
        return np.stack([np.ascontiguousarray(one[cut]) for one in filtered])

    def valid(self, halo_px: int = 0) -> NDArray[np.bool_] | None:
        """Where all segmented channels of the window are finite; None if every dtype value is."""
        return self.valid_of(self.window(halo_px))

    def valid_of(self, box: Box) -> NDArray[np.bool_] | None:
        """Where all segmented channels are finite on a box of this tile's frame, as `valid`."""
        if np.dtype(self.job.info.dtype).kind != "f":
            return None
        pixels = self.raw(self.job.channels, box)
        found: NDArray[np.bool_] = np.asarray(np.isfinite(pixels).all(axis=0))
        return found

    def companion_labels(self, key: str, box: Box) -> Array:
        """Numbers of a label image beside the image, on a box of this tile's frame.

        Returns
        -------
        ndarray of shape (\\*box,), integer

        Raises
        ------
        MethodError
            If the recipe makes them, and has not yet.
        """
        if key not in self.job.companions:
            raise MethodError(
                self.job.name,
                f"a round over the whole dataset asks for the label image {key!r} before any label "
                "is made",
                "Use `scope: image` for this label.",
            )
        source = self.job.companions[key].source
        if source is None:
            raise ValueError(f"the companion {key} is no image")
        labels: Array = self._read(opened(source, self.job.plan), [0], box)[0]
        return labels

    def objects(self, halo_px: int | Sequence[int] = 0) -> NDArray[np.unsignedinteger[Any]]:
        """Numbers of the whole objects of a window, as joined before the round.

        Returns
        -------
        ndarray of shape (\\*window,), unsigned integer
            0 is background.
        """
        if self._whole is None:
            raise ValueError("no objects were joined before this round")
        return self._whole.labels(self.grid, self.tile.frame, self.window(halo_px), self.scratch)

    def keep_labels(self, labels: Array) -> None:
        """Keep the labels that the core's round emits."""
        generation = 0 if self._whole is None else self._whole.generation
        self.scratch.put(labels_name(generation), self.tile.number, labels)

    def value_range(self, channel: int = 0) -> tuple[float, float]:
        """Range that preprocessed pixels of a segmented channel cannot leave."""
        number = self.job.channels[channel]
        place = self._place(channel, self.grid.frame_box)
        return final_range(self.job.recipe.preprocess, *self.raw_range(number), place)

    def raw_range(self, number: int) -> tuple[float, float]:
        """Range of a channel of the file: its dtype's, or as surveyed."""
        return raw_range(self.job.info, self._state, number)

    def _place(self, channel: int, box: Box) -> Place:
        """Where pixels of a segmented channel lie, for the filters."""
        number = self.job.channels[channel]
        name = self.job.info.channels[number]
        return Place(box, self.grid.frame_box, channel, name, number, self._state)

    def _read(self, source: Source, channels: Sequence[int], box: Box) -> Array:
        t, z = self._position()
        if self.grid.ndim == 2:
            whole = Box((z, *box.start), (z + 1, *box.stop))
            return source.read(t, channels, whole)[:, 0]
        return source.read(t, channels, box)

    def _position(self) -> tuple[int, int]:
        if self.grid.ndim == 3:
            return self.tile.frame, 0
        t, z = divmod(self.tile.frame, self.job.info.shape[2])
        return t, z

    def _remember(self, pixels: Array, box: Box) -> None:
        """Keep the core, for it is measured after it was segmented."""
        cut = self.tile.core.within(box)
        for number, one in zip(self.job.channels, pixels, strict=True):
            self._core_pixels[number] = one[cut]

    def _without_gaps(self, pixels: Array) -> Array:
        finite = np.isfinite(pixels)
        if finite.all():
            return pixels
        known = [self.raw_range(number)[0] for number in self.job.channels]
        lows = [low if math.isfinite(low) else 0.0 for low in known]
        shape = (-1,) + (1,) * (pixels.ndim - 1)
        filled: Array = np.where(finite, pixels, np.array(lows, pixels.dtype).reshape(shape))
        return filled
