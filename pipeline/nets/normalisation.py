"""How the pixels of an image become the numbers that a network was trained on.

Every kind is two numbers a channel: a pixel x becomes (x - offset) / scale, in float32. They are
found once, for an image or for the dataset, and hold for all pixels.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from pipeline.nets.parts import Part

Scope = Literal["image", "dataset"]
Epsilon = Annotated[float, Field(ge=0, le=0.1)]
Terms = tuple[NDArray[np.float32], NDArray[np.float32]]


class Percentiles(Part):
    """offset = p_low, scale = p_high - p_low + eps: percentiles of each channel."""

    kind: Literal["percentiles"]
    low: float = Field(default=1.0, ge=0, lt=100)
    high: float = Field(default=99.8, gt=0, le=100)
    eps: Epsilon = 1e-6
    scope: Scope = "image"

    @model_validator(mode="after")
    def _ordered(self) -> Percentiles:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) must be less than high ({self.high:g})")
        return self

    def terms(self, low: ArrayLike, high: ArrayLike) -> Terms:
        """Offset and scale of every channel from its two percentiles, each of shape (C,)."""
        lows, highs = np.asarray(low, np.float64), np.asarray(high, np.float64)
        return _terms(lows, highs - lows + self.eps)


class MeanStd(Part):
    """offset = mean, scale = standard deviation (of all pixels, not n - 1) + eps."""

    kind: Literal["mean_std"]
    eps: Epsilon = 1e-6
    scope: Scope = "image"

    def terms(self, mean: ArrayLike, std: ArrayLike) -> Terms:
        """Offset and scale of every channel from its mean and deviation, each of shape (C,)."""
        return _terms(np.asarray(mean, np.float64), np.asarray(std, np.float64) + self.eps)


class Range(Part):
    """offset = 0, scale = the largest number of the pixels' type; 1 for float pixels."""

    kind: Literal["range"]

    def terms(self, dtype: str, channels: int) -> Terms:
        """Offset and scale of every channel for pixels of `dtype`."""
        kind = np.dtype(dtype)
        scale = float(np.iinfo(kind).max) if kind.kind in "iu" else 1.0
        return _terms(np.zeros(channels), np.full(channels, scale))


class Fixed(Part):
    """offset = mean, scale = std: numbers of the model, one a channel."""

    kind: Literal["fixed"]
    mean: tuple[float, ...] = Field(min_length=1)
    std: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _paired(self) -> Fixed:
        if len(self.mean) != len(self.std):
            raise ValueError(f"{len(self.mean)} numbers in mean, {len(self.std)} in std")
        return self

    def terms(self) -> Terms:
        """Offset and scale of every channel."""
        return _terms(np.array(self.mean), np.array(self.std))


Normalisation = Percentiles | MeanStd | Range | Fixed
AnyNormalisation = Annotated[Normalisation, Field(discriminator="kind")]


def normalise(pixels: NDArray[Any], terms: Terms) -> NDArray[np.float32]:
    """Apply (x - offset) / scale in float32.

    Parameters
    ----------
    pixels : ndarray of shape (C, \\*S)
    terms : pair of ndarrays of shape (C,), float32
        Offset and scale.

    Returns
    -------
    ndarray of shape (C, \\*S), float32
        Each number follows from its pixel alone.
    """
    shape = (-1, *(1,) * (pixels.ndim - 1))
    offset, scale = (term.reshape(shape) for term in terms)
    values = pixels.astype(np.float32)
    values -= offset
    values /= scale
    return values


def _terms(offset: NDArray[np.float64], scale: NDArray[np.float64]) -> Terms:
    scale = np.where(scale > 0, scale, 1.0)  # a constant image without eps
    return offset.astype(np.float32), scale.astype(np.float32)
