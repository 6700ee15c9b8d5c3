"""Test-time augmentation: a frame seen mirrored and turned, and its results turned back."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from pipeline.nets.frame_window import FrameWindow

if TYPE_CHECKING:
    from torch import Tensor

Augmentation: TypeAlias = Literal["flips", "rotations"]


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to see a frame.

    Parameters
    ----------
    flipped : tuple of int
        Axes of the frame, counted from its first, that are mirrored.
    transposed : bool
        Whether the last two axes change places, after mirroring.
    """

    flipped: tuple[int, ...] = ()
    transposed: bool = False

    def apply(self, batch: Tensor) -> Tensor:
        """Turn a batch (N, C, \\*S)."""
        if self.flipped:
            batch = batch.flip([axis + 2 for axis in self.flipped])
        return batch.transpose(-1, -2) if self.transposed else batch

    def apply_window(self, window: FrameWindow, shape: Sequence[int]) -> FrameWindow:
        """Where the turned window, of a shape in px, lies in the turned frame."""
        start, first, last, frame = (
            list(part)
            for part in (window.start, window.block_start, window.block_stop, window.frame_shape)
        )
        for axis in self.flipped:
            n = frame[axis]
            start[axis] = n - start[axis] - shape[axis]
            first[axis], last[axis] = n - last[axis], n - first[axis]
        if self.transposed:
            for part in (start, first, last, frame):
                part[-1], part[-2] = part[-2], part[-1]
        return replace(
            window,
            start=tuple(start),
            block_start=tuple(first),
            block_stop=tuple(last),
            frame_shape=tuple(frame),
        )

    def undo(self, batch: Tensor) -> Tensor:
        """Turn results (N, K, \\*S) back."""
        if self.transposed:
            batch = batch.transpose(-1, -2)
        return batch.flip([axis + 2 for axis in self.flipped]) if self.flipped else batch

    def undo_vectors(self, batch: Tensor) -> Tensor:
        """Turn the components of vectors back; channel i (N, ndim, \\*S) is along axis i.

        Their places were turned by `undo` before.
        """
        order = list(range(batch.shape[1]))
        if self.transposed:
            order[-1], order[-2] = order[-2], order[-1]
        turned = batch[:, order]
        for axis in self.flipped:
            turned[:, axis].neg_()
        return turned


def variants(augment: Sequence[Augmentation], ndim: int) -> tuple[Variant, ...]:
    """All ways to see a frame, the plain one first.

    "flips" mirrors every axis; "rotations" adds quarter turns within a plane, with flips all eight
    symmetries of a square.
    """
    axes = range(ndim)
    flips = [c for n in range(ndim + 1) for c in itertools.combinations(axes, n)]
    if "flips" in augment:
        turns = (False, True) if "rotations" in augment else (False,)
        return tuple(Variant(c, t) for t in turns for c in flips)
    if "rotations" in augment:
        y, x = ndim - 2, ndim - 1
        # A quarter turn is a flip and a transposition; half a turn two flips.
        return (Variant(), Variant((y,), True), Variant((y, x)), Variant((x,), True))
    return (Variant(),)
