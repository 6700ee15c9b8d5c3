"""U-Net in two and three dimensions. Needs torch."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
from pydantic import validate_call
from torch import Tensor, nn

from pipeline.nets.architectures.arguments import Count, Depth, NormName
from pipeline.nets.architectures.weights import initialise

CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
BATCH_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE_NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
#: Groups of channels that share mean and variance, where the number of channels allows it.
GROUPS = 8


class UNet(nn.Module):
    """Encoder and decoder of two 3x3 convolutions a level, with skips between equal levels.

    Convolutions keep the size, unlike those of the first paper. In 2D, channels double at the
    first convolution of a level, and transposed convolutions halve them; in 3D, they double at the
    second, before pooling, and transposed convolutions keep them, as the second paper has it.

    Parameters
    ----------
    dims : int
        2 or 3.
    depth : int
        Times that the sides are halved: 4 in the first paper, 3 in the second. The total stride
        is 2 ** depth.
    base_channels : int
        Of the first convolution: 64 in the first paper, 32 in the second.
    norm : str
        Before each ReLU; "none" as in the first paper, "batch" as in the second. "instance" and
        "group" look at the whole image.

    References
    ----------
    Ronneberger, Fischer, Brox, U-Net, MICCAI 2015, doi:10.1007/978-3-319-24574-4_28
    Çiçek, Abdulkadir, Lienkamp, Brox, Ronneberger, 3D U-Net, MICCAI 2016,
    doi:10.1007/978-3-319-46723-8_49
    """

    @validate_call
    def __init__(
        self,
        in_channels: Count,
        classes: Count,
        dims: Literal[2, 3] = 2,
        depth: Depth = 4,
        base_channels: Count = 64,
        norm: NormName = "batch",
    ) -> None:
        super().__init__()
        first = [base_channels * 2**level for level in range(depth + 1)]
        second = first if dims == 2 else [2 * channels for channels in first]
        self.pool = POOL[dims](2)
        self.encoders = nn.ModuleList()
        channels = in_channels
        for middle, out in zip(first, second, strict=True):
            self.encoders.append(_two_convolutions(dims, (channels, middle, out), norm))
            channels = out
        self.ups = nn.ModuleList()
        self.decoders = nn.ModuleList()
        for out in reversed(second[:-1]):
            raised = out if dims == 2 else channels
            # The second paper's count of parameters has no biases here.
            self.ups.append(TRANSPOSED[dims](channels, raised, 2, stride=2, bias=dims == 2))
            self.decoders.append(_two_convolutions(dims, (out + raised, out, out), norm))
            channels = out
        self.classify = CONVOLUTION[dims](channels, classes, 1)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, *S) to logits (N, classes, *S); sides are multiples of 2 ** depth."""
        skips = []
        for level, encoder in enumerate(self.encoders):
            x = encoder(self.pool(x) if level else x)
            skips.append(x)
        skips.pop()
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            x = decoder(torch.cat([skips.pop(), up(x)], dim=1))
        logits: Tensor = self.classify(x)
        return logits


def _two_convolutions(dims: int, channels: tuple[int, int, int], norm: NormName) -> nn.Sequential:
    layers: list[nn.Module] = []
    for into, out in pairwise(channels):
        # A norm takes a bias away again.
        layers.append(CONVOLUTION[dims](into, out, 3, padding=1, bias=norm == "none"))
        layers += _norm(dims, out, norm)
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def _norm(dims: int, channels: int, name: NormName) -> list[nn.Module]:
    if name == "batch":
        return [BATCH_NORM[dims](channels)]
    if name == "instance":
        return [INSTANCE_NORM[dims](channels, affine=True)]
    if name == "group":
        return [nn.GroupNorm(math.gcd(GROUPS, channels), channels)]
    return []
