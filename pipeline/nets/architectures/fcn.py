"""Fully convolutional networks: FCN-32s, FCN-16s and FCN-8s. Needs torch."""

from __future__ import annotations

from typing import Literal

from pydantic import validate_call
from torch import Tensor, nn

from pipeline.nets.architectures.arguments import Count
from pipeline.nets.architectures.vgg import WIDENING, vgg16_stages
from pipeline.nets.architectures.weights import initialise, make_bilinear


class FCN(nn.Module):
    """VGG16 with its dense layers as convolutions, and scores of finer stages added on the way up.

    The paper pads images by 100 px and crops the result. Here convolutions keep the size, so
    that 32 px are 1 px of the last stage and nothing is cropped. The total stride is 32, also
    of FCN-8s.

    Parameters
    ----------
    stride : int
        Of the finest scores: 32 (FCN-32s), 16 or 8.
    width : int
        Channels of the first stage, 64 in the paper; all others follow.
    dense_channels : int or None
        Of the two convolutions that were dense layers; None: 64 times the width, 4096 in the
        paper. They hold most of the parameters.

    References
    ----------
    Long, Shelhamer, Darrell, Fully convolutional networks for semantic segmentation, CVPR 2015,
    doi:10.1109/CVPR.2015.7298965
    """

    @validate_call
    def __init__(
        self,
        in_channels: Count,
        classes: Count,
        stride: Literal[8, 16, 32] = 8,
        width: Count = 64,
        dense_channels: Count | None = None,
    ) -> None:
        super().__init__()
        self.stages = vgg16_stages(in_channels, width, batch_norm=False)
        self.pool = nn.MaxPool2d(2)
        dense = dense_channels or 64 * width
        self.classify = nn.Sequential(
            nn.Conv2d(width * WIDENING[-1], dense, 7, padding=3),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Conv2d(dense, dense, 1),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Conv2d(dense, classes, 1),
        )
        # Stages 3 and 2 have strides of 16 and 8 behind their pooling.
        self.finer = {32: (), 16: (3,), 8: (3, 2)}[stride]
        self.skips = nn.ModuleList(
            nn.Conv2d(width * WIDENING[stage], classes, 1) for stage in self.finer
        )
        self.ups = nn.ModuleList(_raise(classes, 2) for _ in self.finer)
        self.last = _raise(classes, stride)
        initialise(self)
        for layer in (*self.ups, self.last):
            make_bilinear(layer)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, Y, X) to logits (N, classes, Y, X); sides are multiples of 32."""
        pooled = []
        for stage in self.stages:
            x = self.pool(stage(x))
            pooled.append(x)
        scores = self.classify(x)
        for up, skip, stage_number in zip(self.ups, self.skips, self.finer, strict=True):
            scores = up(scores) + skip(pooled[stage_number])
        logits: Tensor = self.last(scores)
        return logits


def _raise(classes: int, factor: int) -> nn.ConvTranspose2d:
    """Learned upsampling by an even factor, pixel on pixel."""
    return nn.ConvTranspose2d(
        classes, classes, 2 * factor, stride=factor, padding=factor // 2, bias=False
    )
