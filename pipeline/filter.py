"""What a step of the recipe's `preprocess:` list is, and what it may know of where it works."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from pipeline.box import Box
from pipeline.lengths import InUm

if TYPE_CHECKING:
    from pipeline.methods.base import Context, Round, State

Pixels = NDArray[Any]

#: Begin of the keys under which filters keep in the state what they have surveyed.
PREPROCESS = "preprocess."


@dataclass(frozen=True, slots=True)
class Place:
    """Where one channel's pixels lie, and what is known of the whole image.

    Parameters
    ----------
    box, frame : Box
        The pixels' own, and that of the whole frame.
    channel : int
        Position among the segmented channels.
    name : str
    number : int
        Of the channel, in the file.
    state : dict of ndarray
        What was surveyed before.
    """

    box: Box
    frame: Box
    channel: int = 0
    name: str = ""
    number: int = 0
    state: Mapping[str, NDArray[Any]] = field(default_factory=dict)


class Filter(InUm, ABC):
    """A step of the recipe's `preprocess:` list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    def halo_px(self) -> int:
        """Pixels on every side that a result depends on."""

    @abstractmethod
    def apply_at(self, image: Pixels, place: Place) -> Pixels:
        """Filter one channel of shape (Y, X) or (Z, Y, X).

        A pure function of what a pixel's halo holds, of its place in the frame, and of the state.
        """

    def range_at(self, low: float, high: float, place: Place) -> tuple[float, float]:
        """Range of the results anywhere in the frame, given the range of the image."""
        return low, high

    def dtype(self, before: np.dtype[np.generic]) -> np.dtype[np.generic]:
        return before

    def is_dataset_wide(self) -> bool:
        """Whether it looks at all images together before any image goes on."""
        return False

    def notes(self) -> tuple[str, ...]:
        """What else a user should know before the run: lines of the plan."""
        return ()

    def next_round(self, state: State, context: Context) -> Round | None:
        """The round that must come before the filter can work; None where there is none left."""
        return None

    def check(self, context: Context) -> None:
        """Raise MethodError if the filter does not apply to this image."""

    def extra_bytes(self, context: Context) -> int:
        """Memory that does not grow with the window."""
        return 0


class PlainFilter(Filter):
    """A filter that treats all places alike and knows nothing but the pixels."""

    @abstractmethod
    def apply(self, image: Pixels) -> Pixels:
        """Filter one channel of shape (Y, X) or (Z, Y, X)."""

    def value_range(self, low: float, high: float) -> tuple[float, float]:
        """Range of the results, given the range of the image."""
        return low, high

    def apply_at(self, image: Pixels, place: Place) -> Pixels:
        return self.apply(image)

    def range_at(self, low: float, high: float, place: Place) -> tuple[float, float]:
        return self.value_range(low, high)
