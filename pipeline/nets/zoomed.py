"""A network that sees its windows enlarged or reduced by a power of two. Needs torch.

zoom < 1: means of 1 / zoom pixels an axis -> network -> linear interpolation
zoom > 1: linear interpolation -> network -> means of zoom pixels an axis

These are layers as any others: halo, stride, cost and statistics of frames follow from them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.nets.card import ModelCard
from pipeline.nets.heads import DistanceHead
from pipeline.nets.reach import Reach

_HALF = (torch.float16, torch.bfloat16)


class Zoomed(nn.Module):
    """A network on resampled pixels; its outputs lie on the pixels that it is given.

    Parameters
    ----------
    module : nn.Module
        Maps (N, C, \\*S) to (N, K, \\*S).
    zoom : float
        Its pixels for one of ours along each axis, a power of two and not 1.
    ndim : int
        Axes of space.
    lengths : slice or None
        Channels of its outputs that are lengths in its pixels.
    """

    def __init__(self, module: nn.Module, zoom: float, ndim: int, lengths: slice | None) -> None:
        super().__init__()
        self.module = module
        self.zoom = zoom
        self.ndim = ndim
        self.lengths = lengths
        self.factor = round(max(zoom, 1 / zoom))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of shape (N, K, \\*S) of pixels of shape (N, C, \\*S)."""
        if self.zoom < 1:
            return self._larger(self._outputs(self._smaller(x)))
        return self._smaller(self._outputs(self._larger(x)))

    def _outputs(self, x: Tensor) -> Tensor:
        out: Tensor = self.module(x)
        if out.dtype in _HALF:
            out = out.float()  # what is lost in the network is enough
        if self.lengths is None:
            return out
        first, last = self.lengths.start, self.lengths.stop
        parts = (out[:, :first], out[:, first:last] * (1 / self.zoom), out[:, last:])
        return torch.cat([part for part in parts if part.shape[1]], dim=1)

    def _smaller(self, x: Tensor) -> Tensor:
        pool = functional.avg_pool2d if self.ndim == 2 else functional.avg_pool3d
        return pool(x, self.factor)

    def _larger(self, x: Tensor) -> Tensor:
        mode = "bilinear" if self.ndim == 2 else "trilinear"
        factor = float(self.factor)
        return functional.interpolate(x, scale_factor=factor, mode=mode, align_corners=False)


def zoomed(module: nn.Module, card: ModelCard, zoom: float) -> nn.Module:
    """A model's network as it sees an image at a zoom, in evaluation mode."""
    if zoom == 1:
        return module
    lengths = next(
        (
            card.head_slices()[head.head]
            for head in card.heads
            if isinstance(head, DistanceHead) and head.unit == "px"
        ),
        None,
    )
    return Zoomed(module, zoom, card.ndim, lengths).eval()


def zoomed_reach(reach: Reach, zoom: float) -> Reach:
    """What a reach that is stated of a network becomes at a zoom.

    One of its pixels more is read by the interpolation, or one of ours.
    """
    if zoom == 1:
        return reach
    factor = round(max(zoom, 1 / zoom))

    def scaled(px: int) -> int:
        return (px + 1) * factor if zoom < 1 else -(-px // factor) + 1

    return Reach(
        tuple(s * factor if zoom < 1 else s // math.gcd(s, factor) for s in reach.stride),
        tuple(map(scaled, reach.before)),
        tuple(map(scaled, reach.after)),
        reach.unpools,
    )
