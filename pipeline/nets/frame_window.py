"""Where a window lies in its frame, in px and in the pixels of a layer. Needs no torch.

The frame of a network is the image's frame, extended to a multiple of the total stride by
repeating its last pixel: statistics of the whole frame count the repeated pixels too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from pipeline.errors import ModelError


@dataclass(frozen=True, slots=True)
class FrameWindow:
    """A window and its block, in px of the frame, one number an axis of space.

    Parameters
    ----------
    start : tuple of int
        First pixel of the window, a multiple of the total stride.
    block_start, block_stop : tuple of int
        First pixel of the block and first behind it. Blocks lie side by side and fill the frame.
    frame_shape : tuple of int
        Sides of the frame, extended to multiples of the total stride.
    """

    start: tuple[int, ...]
    block_start: tuple[int, ...]
    block_stop: tuple[int, ...]
    frame_shape: tuple[int, ...]

    @classmethod
    def whole(cls, shape: Sequence[int]) -> FrameWindow:
        """The window that is the frame."""
        sides = tuple(int(n) for n in shape)
        return cls((0,) * len(sides), (0,) * len(sides), sides, sides)

    def at_layer(self, window_px: Sequence[int], sides: Sequence[int]) -> FrameWindow:
        """The same in pixels of a layer that has `sides` where the input has `window_px`.

        Raises
        ------
        ModelError
            If the layer's pixels do not fill the window evenly.
        """
        steps = [Fraction(px, n) for px, n in zip(window_px, sides, strict=True)]

        def scaled(places: tuple[int, ...]) -> tuple[int, ...]:
            found = [place / step for place, step in zip(places, steps, strict=True)]
            if any(place.denominator > 1 for place in found):
                raise ModelError(
                    f"A layer of {list(sides)} px in a window of {list(window_px)} px has no "
                    "statistic of the whole frame: its pixels do not fill the window evenly. Use "
                    "convolutions that keep the size, or halve it."
                )
            return tuple(int(place) for place in found)

        return FrameWindow(
            scaled(self.start),
            scaled(self.block_start),
            scaled(self.block_stop),
            scaled(self.frame_shape),
        )

    def block_slices(self) -> tuple[slice, ...]:
        """The block within the window."""
        return tuple(
            slice(a - o, b - o)
            for o, a, b in zip(self.start, self.block_start, self.block_stop, strict=True)
        )
