"""Losses of values: distances and flows."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional

from pipeline.training.losses.means import weighted_mean

KINDS = {
    "l1": functional.l1_loss,
    "l2": functional.mse_loss,
    "smooth_l1": functional.smooth_l1_loss,
}


def regression(
    outputs: Tensor, target: Tensor, known: Tensor, kind: Literal["l1", "l2", "smooth_l1"]
) -> Tensor:
    """Mean of |d|, of d^2, or of d^2 / 2 up to |d| = 1 and |d| - 1/2 beyond.

    Parameters
    ----------
    outputs, target : Tensor of shape (N, K, \\*P)
    known : Tensor of shape (N, \\*P), float32
        0 leaves a pixel out.
    kind : str

    Returns
    -------
    Tensor of shape ()
    """
    values = KINDS[kind](outputs, target, reduction="none").mean(1)
    return weighted_mean(values, known)
