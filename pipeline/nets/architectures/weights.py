"""First weights, drawn from torch's generator: equal seeds give equal networks."""

from __future__ import annotations

import math

import torch
from torch import nn

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)


def initialise(module: nn.Module) -> None:
    """Draw the weights of all convolutions as He et al. do, and set their biases to 0.

    The variance is 2 / n, where n counts what one output value is the sum of. A transposed
    convolution with a stride sums kernel / stride values an axis, which torch's own fan does not
    know.

    References
    ----------
    He, Zhang, Ren, Sun, Delving deep into rectifiers, ICCV 2015, doi:10.1109/ICCV.2015.123
    """
    for layer in module.modules():
        if not isinstance(layer, CONVOLUTIONS + TRANSPOSED):
            continue
        terms = layer.in_channels // layer.groups * math.prod(layer.kernel_size)
        if isinstance(layer, TRANSPOSED):
            terms = max(1, terms // math.prod(layer.stride))
        nn.init.normal_(layer.weight, std=math.sqrt(2 / terms))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


@torch.no_grad()
def scale(module: nn.Module, gain: float) -> None:
    """Multiply all parameters."""
    for parameter in module.parameters():
        parameter.mul_(gain)


@torch.no_grad()
def make_bilinear(layer: nn.ConvTranspose2d) -> None:
    """Let a transposed convolution begin as bilinear interpolation of each channel.

    The kernel is twice the stride: weights fall from the middle to the edges as a tent does.
    """
    factor = layer.stride[0]
    at = torch.arange(2 * factor, device=layer.weight.device)
    tent = 1 - (at - factor + 0.5).abs() / factor
    nn.init.zeros_(layer.weight)
    for channel in range(layer.out_channels):
        layer.weight[channel, channel] = tent[:, None] * tent
