"""Evaluating networks on blocks: what the rounds ask for, with torch.

A member of the ensemble is a model and a way to see the frame. The outputs of a block are the mean
over all members: of probabilities for classes, of the numbers themselves for other heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.blocks import block_grid, extended, own_blocks
from pipeline.box import Box
from pipeline.grid import Tile, TileGrid
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

#: One of so many blocks is computed once more, in part.
CHECK_EVERY = 64
#: The part of a block's side that is computed once more, in a window of its own.
CHECK_PART = 4
#: Smallest probability whose logarithm is taken.
TINY = 1e-30


@dataclass(frozen=True)
class Evaluation:
    """Networks on the blocks of one tile.

    Parameters
    ----------
    settings : Settings
    view : TileView
    state : dict of ndarray
    """

    settings: Settings
    view: TileView
    state: State

    @property
    def blocks(self) -> TileGrid:
        return block_grid(self.view.grid, self.settings.block_px)

    def own(self) -> list[Tile]:
        """Blocks that the tile computes."""
        return own_blocks(self.blocks, self.view.tile)

    def outputs(self, box: Box, precision: Precision) -> NDArray[np.float32]:
        """Outputs of all members together, on a box of the tile's frame.

        Returns
        -------
        ndarray of shape (K, \\*box), float32
        """
        card = self.settings.cards[0]
        members = self.settings.members
        total: Tensor | None = None
        for member, (model, variant) in enumerate(members):
            net = self._predictor(model)
            pixels, window = self._window(net, model, box)
            found = self._found(net, member, net.network.count)
            out = net.run(pixels, window, variant, found, precision)
            inside = _cut(out[0], box.relative_to(window.start))
            if len(members) > 1:
                inside = _probabilities(card, inside)
            total = inside if total is None else total + inside
        if total is None:
            raise ValueError("there is no model")
        if len(members) > 1:
            total = _scores(card, total / len(members))
        outputs: NDArray[np.float32] = total.contiguous().cpu().numpy()
        return outputs

    def sums(self, member: int, number: int, block: Tile) -> Array:
        """What a block adds to a statistic of its frame."""
        model, variant = self.settings.members[member]
        net = self._predictor(model)
        pixels, window = self._window(net, model, block.core)
        found = self._found(net, member, number)
        return net.collect(pixels, window, variant, found)

    def apart(self, block: Tile, outputs: NDArray[np.float32]) -> float | None:
        """How far outputs of a block are from those of another window, where it is checked.

        The other window holds the middle of the block, and is computed in float32.
        """
        exact = self.settings.precision == "float32"
        if block.number % CHECK_EVERY or (exact and self.blocks.tiles_per_frame == 1):
            return None
        part = _middle(block.core, self.settings.stride_px)
        again = self.outputs(part, "float32")
        known = outputs[(slice(None), *part.within(block.core))]
        return float(np.abs(known.astype(np.float64) - again).max(initial=0.0))

    def _found(self, net: Predictor, member: int, count: int) -> list[Array]:
        """The first `count` statistics of the tile's frame."""
        keys = [statistic_key(member, number) for number in range(count)]
        totals = [self.state[key][self.view.tile.frame] for key in keys]
        return [net.network.finish(number, total) for number, total in enumerate(totals)]

    def _predictor(self, model: int) -> Predictor:
        return predictor(self.settings.models[model])

    def _window(
        self, net: Predictor, model: int, box: Box
    ) -> tuple[NDArray[np.float32], FrameWindow]:
        frame = self.blocks.frame_box
        window = box.grow(self._halo(net), frame)
        rule = self.settings.cards[model].normalisation
        key = self.settings.normalisation_key(model)
        pixels = self.view.image_of(window)
        known = normalise(pixels, terms(rule, key, self.state, self.view.context))
        stride = net.reach.stride
        # What the frame's end is extended by belongs to the blocks there.
        whole = tuple(-(-n // s) * s for n, s in zip(frame.stop, stride, strict=True))
        stop = tuple(
            w if b == n else b for b, n, w in zip(box.stop, frame.stop, whole, strict=True)
        )
        return extended(known, stride), FrameWindow(window.start, box.start, stop, whole)

    def _halo(self, net: Predictor) -> tuple[int, ...]:
        halo = list(net.reach.halo_px)
        if "rotations" in self.settings.augment:
            halo[-2:] = [max(halo[-2:])] * 2
        return tuple(halo)


def _cut(outputs: Tensor, box: Box) -> Tensor:
    """A box (K, \\*box) of outputs (K, \\*S)."""
    for axis, (start, side) in enumerate(zip(box.start, box.shape, strict=True)):
        outputs = outputs.narrow(axis + 1, start, side)
    return outputs


def _middle(core: Box, stride_px: tuple[int, ...]) -> Box:
    """The middle of a block, on the stride."""
    start, stop = [], []
    for a, b, s in zip(core.start, core.stop, stride_px, strict=True):
        side = max(s, (b - a) // CHECK_PART // s * s)
        first = a + (b - a - min(side, b - a)) // 2 // s * s
        start.append(first)
        stop.append(min(first + side, b))
    return Box(tuple(start), tuple(stop))


def _probabilities(card: ModelCard, outputs: Tensor) -> Tensor:
    """Outputs (K, \\*S) with the scores of classes as probabilities."""
    out = outputs.clone()
    for kind, channels in card.head_slices().items():
        head = next(h for h in card.heads if h.head == kind)
        if isinstance(head, ClassesHead | BorderHead) and head.activation == "softmax":
            out[channels] = torch.softmax(outputs[channels], dim=0)
    return out


def _scores(card: ModelCard, outputs: Tensor) -> Tensor:
    """The opposite of `_probabilities`, up to a constant of the pixel."""
    for kind, channels in card.head_slices().items():
        head = next(h for h in card.heads if h.head == kind)
        if isinstance(head, ClassesHead | BorderHead) and head.activation == "softmax":
            outputs[channels] = torch.log(outputs[channels].clamp_min(TINY))
    return outputs
