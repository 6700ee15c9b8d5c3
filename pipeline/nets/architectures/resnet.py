"""ResNets of any width and output stride, of torchvision's blocks. Needs torch, torchvision."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from pipeline.nets.architectures.arguments import ResNetName

BLOCKS = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
    "resnet152": (Bottleneck, (3, 8, 36, 3)),
}


class ResNet(nn.Module):
    """The four stages of a ResNet, for an image of any number of channels.

    A stage beyond the output stride keeps its size; its convolutions reach as far by dilation
    as they would have by halving.

    Parameters
    ----------
    name : str
        Such as "resnet50".
    in_channels, width : int
        Channels of the image and of the first convolution: 64 in the paper.
    output_stride : int
        8, 16 or 32, of the last stage; the total stride.

    Attributes
    ----------
    channels : tuple of int
        Of the outputs of the four stages.

    References
    ----------
    He, Zhang, Ren, Sun, Deep residual learning, CVPR 2016, doi:10.1109/CVPR.2016.90
    """

    def __init__(
        self, name: ResNetName, in_channels: int, width: int = 64, output_stride: int = 32
    ) -> None:
        super().__init__()
        block, numbers = BLOCKS[name]
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.stages = nn.ModuleList()
        into, stride, dilation = width, 4, 1
        for stage, number in enumerate(numbers):
            planes = width * 2**stage
            step = 1 if stage == 0 else 2
            before = dilation
            if stride * step > output_stride:
                dilation *= step
                step = 1
            stride *= step
            blocks = [_block(block, into, planes, step, before)]
            into = planes * block.expansion
            blocks += [_block(block, into, planes, 1, dilation) for _ in range(number - 1)]
            self.stages.append(nn.Sequential(*blocks))
        self.channels = tuple(width * 2**stage * block.expansion for stage in range(4))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (N, C, Y, X) to the outputs of the four stages, the finest first."""
        x = self.stem(x)
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found


def _block(
    kind: type[BasicBlock | Bottleneck], into: int, planes: int, stride: int, dilation: int
) -> nn.Module:
    out = planes * kind.expansion
    shortcut = None
    if stride != 1 or into != out:
        shortcut = nn.Sequential(
            nn.Conv2d(into, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out)
        )
    block: nn.Module = kind(into, planes, stride, shortcut)
    # torchvision's small block refuses dilation, so that all get theirs here.
    for layer in block.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
            layer.dilation = layer.padding = (dilation, dilation)
    return block
