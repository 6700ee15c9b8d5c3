"""How a recipe runs its models: what travels to the workers, and the state's names for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.nets.card import ModelCard
from pipeline.nets.device import Precision
from pipeline.nets.reference import ModelReference
from pipeline.nets.variants import Augmentation, Variant, variants

#: Scratch: scores of every block, float32 (K, \\*block).
SCORES = "network"


@dataclass(frozen=True, slots=True)
class Settings:
    """Models and how they are run.

    Parameters
    ----------
    models : tuple of ModelReference
    cards : tuple of ModelCard
    block_px : tuple of int
        Side of a block on every axis, a multiple of `stride_px`.
    stride_px : tuple of int
        The smallest multiple of the total strides of all models.
    augment : tuple of {"flips", "rotations"}
    precision : Precision
    batch : int or None
        Windows at once; None chooses.
    """

    models: tuple[ModelReference, ...]
    cards: tuple[ModelCard, ...]
    block_px: tuple[int, ...]
    stride_px: tuple[int, ...]
    augment: tuple[Augmentation, ...]
    precision: Precision
    batch: int | None = None

    @property
    def members(self) -> tuple[tuple[int, Variant], ...]:
        """The ensemble: numbers of models, and the ways that each sees a frame."""
        ways = variants(self.augment, len(self.block_px))
        return tuple((model, way) for model in range(len(self.models)) for way in ways)

    def normalisation_key(self, model: int) -> str:
        """Name of a model's shifts and scales in the state."""
        return f"network.{model}.normalisation"


def statistic_key(member: int, number: int) -> str:
    """Name in the state of a statistic's totals, one a frame, of a member of the ensemble."""
    return f"network.statistic.{member}.{number}"


def totals(
    frames: Sequence[int] | NDArray[np.int64], numbers: NDArray[np.int64], sums: NDArray[Any]
) -> NDArray[np.float64]:
    """Add the sums of blocks frame by frame, in the order of their numbers.

    Parameters
    ----------
    frames, numbers : ndarray of shape (B,), int64
        Frame and number of every block.
    sums : ndarray of shape (B, ...), float64

    Returns
    -------
    ndarray of shape (frames, ...), float64
    """
    order = np.argsort(numbers, kind="stable")
    found = np.zeros((int(np.max(frames)) + 1, *sums.shape[1:]))
    for frame, one in zip(np.asarray(frames)[order], sums[order], strict=True):
        found[frame] += one
    return found
