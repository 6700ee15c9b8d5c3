"""DeepLabv3: a dilated ResNet and a pyramid of dilated convolutions. Needs torch, torchvision."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import validate_call
from torch import Tensor, nn
from torch.nn import functional

from pipeline.nets.architectures.arguments import Count, Flag, ResNetName
from pipeline.nets.architectures.pooling import ImagePooling
from pipeline.nets.architectures.resnet import ResNet
from pipeline.nets.architectures.weights import initialise


class DeepLab(nn.Module):
    """Atrous spatial pyramid pooling on the last stage of a ResNet.

    The total stride is `output_stride`.

    Parameters
    ----------
    backbone : str
        "resnet18" to "resnet152".
    width : int
        Channels of the backbone's first convolution, 64 in the paper; those of the head follow.
    output_stride : int
        8 or 16.
    atrous_rates : sequence of int or None
        Dilations of the pyramid; None: the paper's, 6, 12, 18 for a stride of 16 and twice that
        for 8.
    image_pooling : bool
        Whether one branch is the mean of the whole image.

    References
    ----------
    Chen, Papandreou, Schroff, Adam, Rethinking atrous convolution, 2017, arXiv:1706.05587
    """

    @validate_call
    def __init__(
        self,
        in_channels: Count,
        classes: Count,
        backbone: ResNetName = "resnet50",
        width: Count = 64,
        output_stride: Literal[8, 16] = 16,
        atrous_rates: tuple[Count, ...] | None = None,
        image_pooling: Flag = True,
    ) -> None:
        super().__init__()
        if atrous_rates is None:
            atrous_rates = tuple(rate * 16 // output_stride for rate in (6, 12, 18))
        self.output_stride = output_stride
        self.backbone = ResNet(backbone, in_channels, width, output_stride)
        into, out = self.backbone.channels[-1], 4 * width
        self.pyramid = nn.ModuleList([_convolution(into, out, 1)])
        self.pyramid += [_convolution(into, out, 3, rate) for rate in atrous_rates]
        if image_pooling:
            self.pyramid.append(ImagePooling(into, out))
        self.classify = nn.Sequential(
            _convolution(len(self.pyramid) * out, out, 1),
            nn.Dropout(),
            _convolution(out, out, 3),
            nn.Conv2d(out, classes, 1),
        )
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, Y, X) to logits (N, classes, Y, X); sides are multiples of the stride."""
        x = self.backbone(x)[-1]
        x = self.classify(torch.cat([branch(x) for branch in self.pyramid], dim=1))
        return functional.interpolate(
            x, scale_factor=self.output_stride, mode="bilinear", align_corners=False
        )


def _convolution(into: int, out: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(into, out, kernel, padding=padding, dilation=dilation, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    )
