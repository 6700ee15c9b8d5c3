"""FC-DenseNet ("the one hundred layers tiramisu"): dense blocks down and up. Needs torch."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, validate_call
from torch import Tensor, nn

from pipeline.nets.architectures.arguments import Count, Fraction
from pipeline.nets.architectures.weights import initialise

#: Layers of the blocks on the way down and of the one at the bottom, and the growth rate.
LAYOUTS: dict[int, tuple[tuple[int, ...], int]] = {
    56: ((4, 4, 4, 4, 4, 4), 12),
    67: ((5, 5, 5, 5, 5, 5), 16),
    103: ((4, 5, 7, 10, 12, 15), 16),
}
#: Growth rate of other layouts: that of the smallest network of the paper.
GROWTH = 12

Layout = Annotated[tuple[Count, ...], Field(min_length=2, max_length=9)]


class FCDenseNet(nn.Module):
    """Blocks whose layers see all that came before; on the way up only new channels are raised.

    The total stride is 2 to the number of blocks on the way down: 32 in the paper.

    Parameters
    ----------
    layout : int or sequence of int
        56, 67 or 103 as in the paper; or the layers of each block on the way down and of the
        one at the bottom, which comes last. The way up mirrors the way down.
    growth : int or None
        Channels that a layer adds; None: 16 for 67 and 103, else 12.
    first_channels : int
        Of the first convolution.
    dropout : float
        Share of values set to 0 behind each convolution while training.

    References
    ----------
    Jégou, Drozdzal, Vazquez, Romero, Bengio, The one hundred layers tiramisu, CVPRW 2017,
    doi:10.1109/CVPRW.2017.156
    """

    @validate_call
    def __init__(
        self,
        in_channels: Count,
        classes: Count,
        layout: Literal[56, 67, 103] | Layout = 56,
        growth: Count | None = None,
        first_channels: Count = 48,
        dropout: Fraction = 0.2,
    ) -> None:
        super().__init__()
        layers, usual = LAYOUTS[layout] if isinstance(layout, int) else (layout, GROWTH)
        growth = usual if growth is None else growth
        self.first = nn.Conv2d(in_channels, first_channels, 3, padding=1)
        self.down = nn.ModuleList()
        self.halvers = nn.ModuleList()
        channels, kept = first_channels, []
        for number in layers[:-1]:
            self.down.append(DenseBlock(channels, growth, number, dropout))
            channels += growth * number
            kept.append(channels)
            self.halvers.append(
                nn.Sequential(_layer(channels, channels, 1, dropout), nn.MaxPool2d(2))
            )
        self.bottom = DenseBlock(channels, growth, layers[-1], dropout)
        self.doublers = nn.ModuleList()
        self.up = nn.ModuleList()
        new = growth * layers[-1]
        for number in reversed(layers[:-1]):
            self.doublers.append(_double(new))
            channels = new + kept.pop()
            self.up.append(DenseBlock(channels, growth, number, dropout))
            new = growth * number
        self.classify = nn.Conv2d(channels + new, classes, 1)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, Y, X) to logits (N, classes, Y, X); sides are multiples of the stride."""
        x = self.first(x)
        skips = []
        for block, halve in zip(self.down, self.halvers, strict=True):
            x = torch.cat([x, block(x)], dim=1)
            skips.append(x)
            x = halve(x)
        new = self.bottom(x)
        for double, block in zip(self.doublers, self.up, strict=True):
            x = torch.cat([double(new), skips.pop()], dim=1)
            new = block(x)
        logits: Tensor = self.classify(torch.cat([x, new], dim=1))
        return logits


class DenseBlock(nn.Module):
    """Layers that each see the input and what all layers before gave."""

    def __init__(self, channels: int, growth: int, number: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            _layer(channels + growth * before, growth, 3, dropout) for before in range(number)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, Y, X) to the new channels alone, (N, growth * number, Y, X)."""
        seen = [x]
        for layer in self.layers:
            seen.append(layer(torch.cat(seen, dim=1)))
        return torch.cat(seen[1:], dim=1)


def _layer(into: int, out: int, kernel: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm2d(into),
        nn.ReLU(inplace=True),
        nn.Conv2d(into, out, kernel, padding=kernel // 2),
        nn.Dropout(dropout),
    )


def _double(channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels, channels, 3, stride=2, padding=1, output_padding=1)
