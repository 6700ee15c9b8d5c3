"""RefineNet: the stages of a ResNet fused from coarse to fine. Needs torch, torchvision."""

from __future__ import annotations

from pydantic import validate_call
from torch import Tensor, nn
from torch.nn import functional

from pipeline.nets.architectures.arguments import Count, ResNetName
from pipeline.nets.architectures.resnet import ResNet
from pipeline.nets.architectures.weights import initialise, scale

#: Nothing here is normalised: what is added to a sum begins small, or sums of sums grow too large.
BRANCH_GAIN = 1 / 3


class RefineNet(nn.Module):
    """Four cascaded blocks, each of which refines the result of the coarser one.

    The total stride is 32; logits are made at a stride of 4 and interpolated.

    Parameters
    ----------
    backbone : str
        "resnet18" to "resnet152".
    width : int
        Channels of the backbone's first convolution, 64 in the paper.
    block_channels : int or None
        Of the three finer blocks; the coarsest has twice as many. None: 4 times the width.
    pooling_steps : int
        Of each chained residual pooling: 4 in the networks that the authors published, 2 in
        the paper's figure.

    References
    ----------
    Lin, Milan, Shen, Reid, RefineNet, CVPR 2017, doi:10.1109/CVPR.2017.549
    """

    @validate_call
    def __init__(
        self,
        in_channels: Count,
        classes: Count,
        backbone: ResNetName = "resnet101",
        width: Count = 64,
        block_channels: Count | None = None,
        pooling_steps: Count = 4,
    ) -> None:
        super().__init__()
        self.backbone = ResNet(backbone, in_channels, width)
        others = block_channels or 4 * width
        self.blocks = nn.ModuleList()
        coarser = 0
        for into in reversed(self.backbone.channels):
            channels = others if coarser else 2 * others
            self.blocks.append(RefineBlock(into, coarser, channels, pooling_steps))
            coarser = channels
        self.classify = nn.Conv2d(others, classes, 3, padding=1)
        initialise(self)
        for layer in self.modules():
            if isinstance(layer, ResidualUnit):
                scale(layer.layers[-1], BRANCH_GAIN)
            elif isinstance(layer, ChainedPooling):
                scale(layer.weigh, BRANCH_GAIN)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, Y, X) to logits (N, classes, Y, X); sides are multiples of 32."""
        refined = None
        for block, features in zip(self.blocks, reversed(self.backbone(x)), strict=True):
            refined = block(features, refined)
        logits: Tensor = self.classify(refined)
        return functional.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)


class RefineBlock(nn.Module):
    """Residual units on each input, their fusion, chained residual pooling, residual units.

    Parameters
    ----------
    into : int
        Channels of the backbone's stage.
    coarser : int
        Channels of the coarser block's result; 0 if there is none.
    channels : int
        Of this block.
    pooling_steps : int
        Of the chained residual pooling.
    """

    def __init__(self, into: int, coarser: int, channels: int, pooling_steps: int) -> None:
        super().__init__()
        self.adapt = nn.Sequential(_convolution(into, channels), _units(channels, 2))
        self.fuse = nn.ModuleList()
        if coarser:
            self.fuse.append(_convolution(channels, channels))
            self.fuse.append(_convolution(coarser, channels))
        self.pool = ChainedPooling(channels, pooling_steps)
        self.refine = _units(channels, 3)

    def forward(self, features: Tensor, coarser: Tensor | None) -> Tensor:
        """Fuse (N, into, Y, X) with the result of half the size; gives (N, channels, Y, X)."""
        x: Tensor = self.adapt(features)
        if coarser is not None:
            raised = functional.interpolate(
                self.fuse[1](coarser), scale_factor=2, mode="bilinear", align_corners=False
            )
            x = self.fuse[0](x) + raised
        refined: Tensor = self.refine(self.pool(x))
        return refined


class ResidualUnit(nn.Module):
    """ReLU, 3x3 convolution, twice, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(),
            _convolution(channels, channels),
            nn.ReLU(),
            _convolution(channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape."""
        added: Tensor = self.layers(x)
        return x + added


class ChainedPooling(nn.Module):
    """Maxima of ever larger neighbourhoods, each weighed by a convolution, added to the input."""

    def __init__(self, channels: int, steps: int) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)
        self.weigh = nn.ModuleList(_convolution(channels, channels) for _ in range(steps))

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape."""
        total: Tensor = functional.relu(x)
        way = total
        for weigh in self.weigh:
            way = weigh(self.pool(way))
            total = total + way
        return total


def _convolution(into: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(into, out, 3, padding=1)


def _units(channels: int, number: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualUnit(channels) for _ in range(number)))
