"""Means over pixels that count differently."""

from __future__ import annotations

from torch import Tensor


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Sum of weights times values over the sum of weights; 0 where nothing has a weight."""
    total = weights.sum()
    return (weights * values).sum() / total.clamp(min=1e-12)
