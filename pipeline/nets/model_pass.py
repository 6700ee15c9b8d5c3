"""One model of an ensemble over blocks of a frame: the stages that a block goes through.

load: pixels, normalised, extended | compute: in every way to see them | decode: cut, added up
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.blocks import block_grid, extended
from pipeline.box import Box
from pipeline.grid import Tile
from pipeline.methods.base import State
from pipeline.nets.card import ModelCard
from pipeline.nets.device import Precision
from pipeline.nets.frame_window import FrameWindow
from pipeline.nets.heads import BorderHead, ClassesHead
from pipeline.nets.normalisation import normalise
from pipeline.nets.predictor import Predictor, predictor
from pipeline.nets.settings import Settings, statistic_key
from pipeline.nets.survey import terms
from pipeline.view import TileView

Array = NDArray[Any]

#: Smallest probability whose logarithm is taken.
TINY = 1e-30


@dataclass(frozen=True)
class ModelPass:
    """A model, and how it sees the tile's frame.

    Parameters
    ----------
    settings : Settings
    model : int
        Its number among the models.
    view : TileView
    state : dict of ndarray
    precision : Precision
    """

    settings: Settings
    model: int
    view: TileView
    state: State
    precision: Precision

    @cached_property
    def net(self) -> Predictor:
        return predictor(self.settings.models[self.model])

    def place(self, block: Tile) -> tuple[Box, FrameWindow]:
        """The window of a block before it is extended, and where it lies for the network."""
        frame = block_grid(self.view.grid, self.settings.block_px).frame_box
        window = block.core.grow(self._halo, frame)
        # What the frame's end is extended by belongs to the blocks there.
        stride = self.net.reach.stride
        whole = tuple(-(-n // s) * s for n, s in zip(frame.stop, stride, strict=True))
        stop = tuple(
            w if b == n else b for b, n, w in zip(block.core.stop, frame.stop, whole, strict=True)
        )
        return window, FrameWindow(window.start, block.core.start, stop, whole)

    def load(self, block: Tile) -> Tensor:
        """Window (C, \\*S) of a block, normalised and extended."""
        window, _ = self.place(block)
        rule = self.settings.cards[self.model].normalisation
        key = self.settings.normalisation_key(self.model)
        pixels = self.view.image_of(window)
        known = normalise(pixels, terms(rule, key, self.state, self.view.context))
        return torch.from_numpy(np.ascontiguousarray(extended(known, self.net.reach.stride)))

    def compute(self, windows: Tensor, blocks: Any) -> Tensor:
        """Outputs (N, V, K, \\*S) of windows (N, C, \\*S), one for each of V ways to see them."""
        place = self.place(blocks[0])[1]  # with statistics, a window comes alone
        ways = [
            self.net.run(windows, place, variant, found, self.precision)
            for variant, found in self._ways
        ]
        return ways[0][:, None] if len(ways) == 1 else torch.stack(ways, dim=1)

    def decode(self, block: Tile, ways: Tensor, before: Array | None) -> NDArray[np.float32]:
        """Outputs (K, \\*core) of a block, added to those of the models before."""
        card, members = self.settings.cards[0], self.settings.members
        inside = block.core.relative_to(self.place(block)[0].start)
        total = None if before is None else torch.from_numpy(before)
        for way in ways:
            outputs = _cut(way, inside)
            if len(members) > 1:
                outputs = _probabilities(card, outputs)
            total = outputs if total is None else total + outputs
        assert total is not None  # there is always a way to see a frame
        if len(members) > 1 and self.model == len(self.settings.models) - 1:
            total = _scores(card, total / len(members))
        outputs_of_block: NDArray[np.float32] = total.contiguous().numpy()
        return outputs_of_block

    def found(self, member: int, count: int) -> list[Array]:
        """The first `count` statistics of the tile's frame."""
        keys = [statistic_key(member, number) for number in range(count)]
        totals = [self.state[key][self.view.tile.frame] for key in keys]
        return [self.net.network.finish(number, total) for number, total in enumerate(totals)]

    @cached_property
    def _ways(self) -> list[Any]:
        """Variants of this model, each with its statistics."""
        return [
            (variant, self.found(member, self.net.network.count))
            for member, (model, variant) in enumerate(self.settings.members)
            if model == self.model
        ]

    @cached_property
    def _halo(self) -> tuple[int, ...]:
        halo = list(self.net.reach.halo_px)
        if "rotations" in self.settings.augment:
            halo[-2:] = [max(halo[-2:])] * 2
        return tuple(halo)


def _cut(outputs: Tensor, box: Box) -> Tensor:
    """A box (K, \\*box) of outputs (K, \\*S)."""
    for axis, (start, side) in enumerate(zip(box.start, box.shape, strict=True)):
        outputs = outputs.narrow(axis + 1, start, side)
    return outputs


def _probabilities(card: ModelCard, outputs: Tensor) -> Tensor:
    """Outputs (K, \\*S) with the scores of classes as probabilities."""
    out = outputs.clone()
    for activation, channels in _class_channels(card):
        if activation == "softmax":
            out[channels] = torch.softmax(outputs[channels], dim=0)
        elif activation == "sigmoid":
            out[channels] = torch.sigmoid(outputs[channels])
    return out


def _scores(card: ModelCard, outputs: Tensor) -> Tensor:
    """The opposite of `_probabilities`, up to a constant of the pixel."""
    for activation, channels in _class_channels(card):
        if activation == "softmax":
            outputs[channels] = torch.log(outputs[channels].clamp_min(TINY))
        elif activation == "sigmoid":
            outputs[channels] = torch.logit(outputs[channels], 1e-7)
    return outputs


def _class_channels(card: ModelCard) -> Iterator[tuple[str, slice]]:
    slices = card.head_slices()
    for head in card.heads:
        if isinstance(head, ClassesHead | BorderHead):
            yield head.activation, slices[head.head]
