"""Pooling over the whole image: the two layers of this package that see all of it.

Everything here that depends on the whole image is an `nn.AdaptiveAvgPool2d`, the first layer of a
branch. What runs in windows is given its result instead (`pipeline/nets/context.py`).

In training, batch norm needs more than one value a channel: a branch of one bin needs batches of
two images or more.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def _branch(in_channels: int, out_channels: int, bins: int) -> nn.Sequential:
    """Mean of bins x bins parts of the image -> 1x1 convolution -> norm -> ReLU."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(bins),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


class ImagePooling(nn.Module):
    """The mean of the image, at every pixel: the branch of DeepLabv3's pyramid.

    Attributes
    ----------
    bins : tuple of int
        Always (1,).
    branches : nn.ModuleList
        One branch: pooling, convolution, norm, ReLU.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.bins: tuple[int, ...] = (1,)
        self.branches = nn.ModuleList([_branch(in_channels, out_channels, 1)])

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, Y, X) to (N, out, Y, X)."""
        pooled: Tensor = self.branches[0](x)
        return pooled.expand(*pooled.shape[:2], *x.shape[2:])


class PyramidPooling(nn.Module):
    """The input, and means of its parts brought back to its size, for every number of bins.

    Bins are those of torch's adaptive pooling; they are brought back by bilinear interpolation
    with `align_corners=False`.

    Attributes
    ----------
    bins : tuple of int
        Parts along each axis, one entry a branch.
    branches : nn.ModuleList
        For each entry of `bins`: pooling, convolution, norm, ReLU.
    """

    def __init__(self, in_channels: int, out_channels: int, bins: Sequence[int]) -> None:
        super().__init__()
        self.bins = tuple(bins)
        self.branches = nn.ModuleList(_branch(in_channels, out_channels, n) for n in self.bins)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, Y, X) to (N, in + len(bins) * out, Y, X); the input comes first."""
        size = x.shape[2:]
        spread = [
            functional.interpolate(branch(x), size=size, mode="bilinear", align_corners=False)
            for branch in self.branches
        ]
        return torch.cat([x, *spread], dim=1)
