"""Sides that a network can halve: the image's last pixel is repeated."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional


def pad_to_stride(x: Tensor, stride: int | Sequence[int]) -> Tensor:
    """Extend each spatial axis at its end to the next multiple of the stride.

    Parameters
    ----------
    x : Tensor of shape (N, C, Y, X) or (N, C, Z, Y, X)
    stride : int or sequence of int
        For all axes, or one for each.

    Returns
    -------
    Tensor
        `x` and, behind it, copies of its last pixel of each row, column and plane.
    """
    axes = x.ndim - 2
    strides = [stride] * axes if isinstance(stride, int) else list(stride)
    missing = [-side % step for side, step in zip(x.shape[2:], strides, strict=True)]
    if not any(missing):
        return x
    # torch counts axes from the last, with what is added before and behind.
    padding = [px for behind in reversed(missing) for px in (0, behind)]
    return functional.pad(x, padding, mode="replicate")
