"""Layers that look at the whole frame. Needs torch.

In windows they are right only inside a `pipeline.nets.context.GlobalContext`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def _branch(in_channels: int, out_channels: int, bins: int) -> nn.Sequential:
    """Means of bins, a 1 x 1 convolution, norm and ReLU."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(bins),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


class ImagePooling(nn.Module):
    """The mean of the frame at every pixel: a branch of atrous spatial pyramid pooling.

    Maps (N, in_channels, Y, X) to (N, out_channels, Y, X).

    References
    ----------
    Chen et al., Rethinking atrous convolution for semantic image segmentation, 2017,
    doi:10.48550/arXiv.1706.05587
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.bins: tuple[int, ...] = (1,)
        self.branches = nn.ModuleList([_branch(in_channels, out_channels, 1)])

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.branches[0](x)
        return pooled.expand(-1, -1, *x.shape[2:])


class PyramidPooling(nn.Module):
    """The image, and means of 1, 4, 9, ... bins of the frame, bilinearly between their middles.

    Maps (N, in_channels, Y, X) to (N, in_channels + len(bins) * out_channels, Y, X).

    References
    ----------
    Zhao et al., Pyramid scene parsing network, 2017, doi:10.1109/CVPR.2017.660
    """

    def __init__(
        self, in_channels: int, out_channels: int, bins: Sequence[int] = (1, 2, 3, 6)
    ) -> None:
        super().__init__()
        self.bins = tuple(bins)
        self.branches = nn.ModuleList(_branch(in_channels, out_channels, n) for n in self.bins)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        pooled = [
            functional.interpolate(branch(x), size, mode="bilinear", align_corners=False)
            for branch in self.branches
        ]
        return torch.cat([x, *pooled], 1)
