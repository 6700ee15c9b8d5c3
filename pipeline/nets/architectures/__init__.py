"""Architectures by name. A stub until the real ones are merged. Needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.names import nearest


def build(name: str, in_channels: int, classes: int, arguments: Mapping[str, Any]) -> nn.Module:
    """A network by the name of its architecture."""
    if name != "unet":
        raise ModelError(f"architecture: no {name!r}{nearest(name, ['unet'])}. Known: unet.")
    return _UNet(in_channels, classes, **arguments)


class _UNet(nn.Module):
    def __init__(self, in_channels: int, classes: int, depth: int = 1, base_channels: int = 4):
        super().__init__()
        self.first = nn.Conv2d(in_channels, base_channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(base_channels)
        self.down = nn.MaxPool2d(2)
        self.low = nn.Conv2d(base_channels, base_channels, 3, padding=1)
        self.up = nn.ConvTranspose2d(base_channels, base_channels, 2, stride=2)
        self.last = nn.Conv2d(2 * base_channels, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = torch.relu(self.norm(self.first(x)))
        low: Tensor = self.up(torch.relu(self.low(self.down(first))))
        logits: Tensor = self.last(torch.cat([first, low], 1))
        return logits
