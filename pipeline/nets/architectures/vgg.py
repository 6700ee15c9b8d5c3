"""The convolutions of VGG16, which FCN and SegNet begin with. Needs torch."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

#: Convolutions of each stage, and their channels for a width of 64.
CONVOLUTIONS = (2, 2, 3, 3, 3)
WIDENING = (1, 2, 4, 8, 8)


def vgg16_stages(in_channels: int, width: int, *, batch_norm: bool) -> nn.ModuleList:
    """Five stages of 3x3 convolutions, without the pooling behind each.

    Parameters
    ----------
    in_channels, width : int
        Channels of the image and of the first stage: 64 in the paper.
    batch_norm : bool
        Whether a batch norm follows each convolution.

    References
    ----------
    Simonyan, Zisserman, Very deep convolutional networks, ICLR 2015, arXiv:1409.1556
    """
    stages = nn.ModuleList()
    for number, widening in zip(CONVOLUTIONS, WIDENING, strict=True):
        out = width * widening
        channels = [in_channels] + [out] * number
        stages.append(convolutions(channels, batch_norm=batch_norm))
        in_channels = out
    return stages


def convolutions(channels: list[int], *, batch_norm: bool) -> nn.Sequential:
    """3x3 convolutions from each number of channels to the next, each with a ReLU."""
    layers: list[nn.Module] = []
    for into, out in pairwise(channels):
        layers.append(nn.Conv2d(into, out, 3, padding=1, bias=not batch_norm))
        layers += [nn.BatchNorm2d(out)] if batch_norm else []
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
