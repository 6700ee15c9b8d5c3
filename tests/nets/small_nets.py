"""Small networks of every kind that the tests of windows need."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.nets.architectures.pooling import ImagePooling, PyramidPooling

Norm = Callable[[int], nn.Module]


class UNet(nn.Module):
    """Two convolutions a block, max-pooling, transposed convolutions."""

    def __init__(
        self, depth: int, ndim: int = 2, channels: int = 4, norm: Norm = lambda _: nn.Identity()
    ) -> None:
        super().__init__()
        conv, turned, pool = {
            2: (nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d),
            3: (nn.Conv3d, nn.ConvTranspose3d, nn.MaxPool3d),
        }[ndim]

        def block(before: int) -> nn.Sequential:
            return nn.Sequential(
                conv(before, channels, 3, padding=1),
                norm(channels),
                nn.ReLU(inplace=True),
                conv(channels, channels, 3, padding=1),
                nn.ReLU(inplace=True),
            )

        self.down = nn.ModuleList(block(channels if k else 1) for k in range(depth + 1))
        self.pool = pool(2)
        self.turned = nn.ModuleList(turned(channels, channels, 2, 2) for _ in range(depth))
        self.up = nn.ModuleList(block(2 * channels) for _ in range(depth))
        self.head = conv(channels, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for k, block in enumerate(self.down):
            x = block(self.pool(x) if k else x)
            skips.append(x)
        skips.pop()
        for turned, block in zip(self.turned, self.up):  # noqa: B905  TorchScript knows no strict
            x = block(torch.cat([turned(x), skips.pop()], 1))
        return self.head(x)


class SegNet(nn.Module):
    """Max-unpooling at saved places."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = conv(1, 4, 3), conv(4, 2, 3)
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.unpool = nn.MaxUnpool2d(2)
        self.middle = conv(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        pooled, places = self.pool(self.first(x))
        return self.last(self.unpool(self.middle(pooled), places))


class Backbone(nn.Module):
    """Two convolutions of stride 2, something behind them, and upsampling by 4."""

    def __init__(self, behind: nn.Module, channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.behind = behind
        self.head = conv(channels, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.head(self.behind(self.features(x)))
        return functional.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)


class Aspp(nn.Module):
    """Atrous spatial pyramid pooling: dilated convolutions and image pooling."""

    def __init__(self, rates: tuple[int, ...] = (1, 2, 3), pooled: bool = True) -> None:
        super().__init__()
        self.branches = nn.ModuleList(conv(8, 4, 3, dilation=rate) for rate in rates)
        if pooled:
            self.branches.append(ImagePooling(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class Excitation(nn.Module):
    """Squeeze and excitation, written with a mean and matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv(1, 4, 3)
        self.gates = nn.Linear(4, 4)
        self.last = conv(4, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(x * self.gates(x.mean((2, 3))).sigmoid()[:, :, None, None])


def conv(before: int, behind: int, side: int, dilation: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size."""
    return nn.Conv2d(before, behind, side, padding=dilation * (side // 2), dilation=dilation)


def deeplab() -> nn.Module:
    return settled(Backbone(Aspp(), 16))


def pspnet() -> nn.Module:
    return settled(Backbone(PyramidPooling(8, 4, (1, 2, 3, 6)), 24))


def settled(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in evaluation mode, with norms as after a training."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None:
            part.running_mean.normal_(generator=generator)
            part.running_var.uniform_(0.5, 2.0, generator=generator)
    return module.eval()
