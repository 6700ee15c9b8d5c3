"""Statistics of a frame that layers ask for: summed over blocks, then given to every window.

Needs torch. Sums are float64 and are added by the caller in the order of the blocks, so that they
do not depend on who computed which block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.nets.frame_window import FrameWindow

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Means:
    """Means of bins: adaptive average pooling.

    Bins overlap where their number does not divide the side, as torch has it: bin i of n along a
    side of L px holds pixels floor(i L / n) to ceil((i + 1) L / n) - 1.

    Parameters
    ----------
    channels : int
    bins : tuple of int
        Number of bins an axis.
    """

    channels: int
    bins: tuple[int, ...]

    @property
    def total_shape(self) -> tuple[int, ...]:
        """Of the sums: a row of counts, then a row a channel."""
        return (1 + self.channels, *self.bins)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, *self.bins)

    def collect(self, x: Tensor, window: FrameWindow) -> Array:
        """Sums over the block: x of shape (1, C, \\*S)."""
        sums = x[0][(slice(None), *window.block_slices())].double()
        sums = torch.cat([torch.ones_like(sums[:1]), sums])
        for k, n in enumerate(self.bins):
            held = _membership(window, k, n)
            if held is None:
                sums = sums.sum(1 + k, keepdim=True)
            else:
                weights = torch.from_numpy(held).to(sums)
                sums = torch.tensordot(sums, weights, ([1 + k], [1])).movedim(-1, 1 + k)
        return sums.cpu().numpy()

    def finish(self, total: Array) -> Array:
        return total[1:] / total[:1]


def _membership(window: FrameWindow, axis: int, bins: int) -> Array | None:
    """Which pixels of the block are in which bin, of shape (bins, pixels); None: all in one."""
    if bins == 1:
        return None
    length = window.frame_shape[axis]
    place = np.arange(window.block_start[axis], window.block_stop[axis])
    number = np.arange(bins)[:, None]
    first, behind = number * length // bins, -(-(number + 1) * length // bins)
    return ((first <= place) & (place < behind)).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and variance of groups of channels: instance norm has one channel a group.

    Parameters
    ----------
    groups : int
    """

    groups: int

    @property
    def total_shape(self) -> tuple[int, ...]:
        """Of the sums: counts, values, squares."""
        return (3, self.groups)

    @property
    def shape(self) -> tuple[int, ...]:
        return (2, self.groups)

    def collect(self, x: Tensor, window: FrameWindow) -> Array:
        """Sums over the block: x of shape (1, C, \\*S)."""
        values = x[0][(slice(None), *window.block_slices())].double().reshape(self.groups, -1)
        counts = torch.full_like(values[:, 0], values.shape[1])
        return torch.stack([counts, values.sum(1), values.square().sum(1)]).cpu().numpy()

    def finish(self, total: Array) -> Array:
        mean = total[1] / total[0]
        return np.stack([mean, np.maximum(total[2] / total[0] - mean * mean, 0.0)])


Statistic = Means | Moments


def normalised(
    x: Tensor, found: Array, eps: float, weight: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """What a norm makes of a window with the frame's moments: result, means, 1 / deviations."""
    mean, variance = (torch.from_numpy(row) for row in found)
    spread = (variance + eps).rsqrt()
    column = (1, x.shape[1], *(1,) * (x.dim() - 2))
    per_channel = [
        t.repeat_interleave(x.shape[1] // len(t)).reshape(column) for t in (mean, spread)
    ]
    shift, scale = (t.to(x.device, x.dtype) for t in per_channel)
    result = (x - shift) * scale
    if weight is not None:
        result = result * weight.reshape(column)
    if bias is not None:
        result = result + bias.reshape(column)
    return result, mean.to(x.device, x.dtype), spread.to(x.device, x.dtype)


def upsampled(
    bins: Tensor, window: FrameWindow, sides: Sequence[int], mode: str, align_corners: bool
) -> Tensor:
    """A window of a map of bins that is resampled to the sides of the frame.

    Parameters
    ----------
    bins : Tensor of shape (N, C, \\*bins)
    window : FrameWindow
        In pixels of the layer.
    sides : sequence of int
        Of the window, in pixels of the layer.
    mode : str
        "nearest", "nearest-exact" or "linear".
    align_corners : bool
        As in `torch.nn.functional.interpolate`.

    Returns
    -------
    Tensor of shape (N, C, \\*sides)
    """
    found = bins.double()
    for k, side in enumerate(sides):
        n, length = bins.shape[2 + k], window.frame_shape[k]
        place = np.arange(window.start[k], window.start[k] + side)
        if mode == "linear":
            if align_corners:
                source = place * ((n - 1) / max(length - 1, 1))
            else:
                source = np.maximum((place + 0.5) * (n / length) - 0.5, 0.0)
            low = np.minimum(source.astype(np.int64), n - 1)
            part = source - low
        else:
            half = 1 if mode == "nearest-exact" else 0
            low = (2 * place + half) * n // (2 * length)
            part = np.zeros(side)
        high = np.minimum(low + 1, n - 1)
        share = _like(part, found).reshape((-1, *(1,) * (len(sides) - 1 - k)))
        lower, higher = (found.index_select(2 + k, _like(i, found, False)) for i in (low, high))
        found = lower * (1 - share) + higher * share
    return found.to(bins.dtype)


def _like(array: NDArray[Any], other: Tensor, real: bool = True) -> Tensor:
    tensor = torch.from_numpy(array).to(other.device)
    return tensor.to(other.dtype) if real else tensor
