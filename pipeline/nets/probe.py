"""Checking with numbers how far a network looks, when it is loaded. Needs torch.

A block of one total stride is computed three times, axis by axis, in long narrow images. Outside
its window all is NaN, then random numbers; then the window is computed alone, as it is in a run.
NaN passes through sums, maxima and activations; what lets none pass, such as a comparison, shows by
the numbers. The last shows a stride that is wrong, and how much rounding changes with the window.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.nets.reach import Reach

#: Logits of one pixel that differ by more than this part of the largest are not rounding.
TOLERANCE = 1e-3

#: No image is narrower across: mirroring at the border takes some pixels.
_LEAST_SIDE_PX = 16


def check_reach(
    module: nn.Module, in_channels: int, reach: Reach, name: str | None = None, seed: int = 0
) -> float:
    """Check that a block does not depend on what is outside its window.

    The block has the side of one total stride, so all phases are looked at. A reach that is
    too small, where blocks on the stride do not notice, does no harm and is not found.

    Parameters
    ----------
    module : nn.Module
        Maps (1, in_channels, \\*S) to (1, classes, \\*S), in evaluation mode and on the CPU, where
        convolutions are computed pixel by pixel.
    in_channels : int
        Channels of the input.
    reach : Reach
        What is checked: its `halo_px` and `stride`.
    name : str, optional
        What messages call the model; its class by default.
    seed : int
        Of the random image.

    Returns
    -------
    float
        The largest difference between logits of a block in its window and in a larger image.

    Raises
    ------
    ModelError
        If the block depends on pixels outside its window, or logits are not those of the image
        where a window begins on the total stride.
    """
    name = name or type(module).__name__
    with torch.no_grad():
        axes = range(len(reach.stride))
        return max(_check_axis(module, in_channels, reach, name, axis, seed) for axis in axes)


def _check_axis(
    module: nn.Module, in_channels: int, reach: Reach, name: str, axis: int, seed: int
) -> float:
    """Check one axis; returns the difference."""
    halo, stride = reach.halo_px[axis], reach.stride[axis]
    generator = torch.Generator().manual_seed(seed)
    like = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))
    sides = [-(-max(2 * s, _LEAST_SIDE_PX) // s) * s for s in reach.stride]

    def noise(length: int) -> Tensor:
        shape = (1, in_channels, *sides[:axis], length, *sides[axis + 1 :])
        return torch.randn(shape, generator=generator).to(like.device, like.dtype)

    def block(image: Tensor, start: int) -> Tensor:
        return _run(module, name, image).narrow(2 + axis, start, stride)

    window, before, behind = noise(stride + 2 * halo), noise(stride), noise(stride)
    lost, other = (
        block(torch.cat([before * factor, window, behind * factor], 2 + axis), stride + halo)
        for factor in (torch.nan, 100.0)
    )
    alone = block(window, halo)
    if not torch.equal(lost, other):
        raise ModelError(
            f"{name}: along axis {axis} a block depends on more than {halo} px around it. Correct "
            "halo_px of its card, or leave it out so that it is measured."
        )
    epsilon = float((alone - other).abs().max())
    largest = max(1.0, float(other.abs().max()))
    if not epsilon <= TOLERANCE * largest:
        raise ModelError(
            f"{name}: along axis {axis} a block in windows that begin {stride} px apart differs by "
            f"{epsilon:.3g} in logits of up to {largest:.3g}. Correct stride_px or halo_px of its "
            "card, or leave them out so that they are measured."
        )
    return epsilon


def _run(module: nn.Module, name: str, image: Tensor) -> Tensor:
    sides = list(image.shape[2:])
    try:
        logits: Tensor = module(image)
    except Exception as error:  # whatever a module raises
        raise ModelError(
            f"{name}: it cannot be run on {sides} px, which its total stride divides ({error}). "
            "Correct stride_px of its card."
        ) from error
    if list(logits.shape[2:]) != sides:
        raise ModelError(
            f"{name}: {sides} px give logits of {list(logits.shape[2:])}; the sides must be equal. "
            "Correct stride_px of its card."
        )
    return logits
