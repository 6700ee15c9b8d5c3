"""Pixels as bytes, for libraries that take no other: from the range of the whole image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.methods.base import Context, State
from pipeline.range_survey import ValueRanges
from pipeline.view import TileView

BYTE_RANGE = "bytes.range"


def needs_byte_survey(state: State, context: Context) -> bool:
    """Whether the range of the preprocessed pixels must still be found."""
    return context.dtype != "uint8" and BYTE_RANGE not in state


@dataclass(frozen=True)
class ByteSurvey(ValueRanges):
    """Of every segmented channel, after the filters."""

    name: ClassVar[str] = "bytes"
    key: ClassVar[str] = BYTE_RANGE

    def channels(self, view: TileView) -> Iterator[NDArray[Any]]:
        valid = view.valid()
        for pixels in view.image():
            yield pixels if valid is None else pixels[valid]


def as_bytes(pixels: NDArray[Any], state: State) -> NDArray[np.uint8]:
    """Pixels of 0 to 255.

    Parameters
    ----------
    pixels : ndarray of shape (C, \\*box)
        uint8 stays as it is. Other values are mapped linearly, each channel from its range in
        `state`, and rounded, halves to even; those outside the range count as its ends, and
        channels of one value become 0.
    state : dict of ndarray

    Returns
    -------
    ndarray of shape (C, \\*box), uint8
    """
    if pixels.dtype == np.uint8:
        return pixels
    found = np.zeros(pixels.shape, np.uint8)
    for one, (low, high), target in zip(pixels, state[BYTE_RANGE].tolist(), found, strict=True):
        if low < high:
            # Halved, for the span of the largest floats is none; that changes no other digit.
            part = np.clip(one.astype(np.float64), low, high) / 2 - low / 2
            target[...] = np.rint(part / (high / 2 - low / 2) * 255)
    return found
