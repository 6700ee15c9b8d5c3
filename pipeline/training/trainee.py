"""What is trained: a network of pixels or a detector, each with its targets and losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.training.frames import Floats
from pipeline.training.patches import Outside, Patch
from pipeline.training.recipe import TrainingRecipe


class Trainee(Protocol):
    """A kind of network, and how it learns.

    Attributes
    ----------
    margin_px : int
        Px around a patch whose labels are needed.
    outside : {"mirror", "empty"}
        What labels are outside of a frame.
    """

    margin_px: int
    outside: Outside

    def maps(self, objects: NDArray[np.int32]) -> dict[str, Floats]:
        """Maps of a whole frame that targets are cut from."""

    def prepare(self, network: nn.Module) -> None:
        """Set what a network needs for training alone."""

    def batch(self, patches: Sequence[Patch], step: int | None = None) -> Any:
        """Patches of a step, or that judge, as `losses` takes them; made by threads, on the CPU."""

    def losses(self, network: nn.Module, batch: Any, device: torch.device) -> dict[str, Tensor]:
        """Parts of the loss by name, each with its weight: their sum is what falls."""


def trainee_of(recipe: TrainingRecipe) -> Trainee:
    """The kind of network that a recipe trains."""
    if recipe.card().is_detector:
        from pipeline.training.detector import DetectorTrainee  # noqa: PLC0415

        return DetectorTrainee(recipe)
    from pipeline.training.dense import DenseTrainee  # noqa: PLC0415

    return DenseTrainee(recipe)
