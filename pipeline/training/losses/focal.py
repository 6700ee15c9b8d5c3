"""Focal loss: cross-entropy, less for pixels that are right already."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.training.losses.means import weighted_mean


def focal(
    logits: Tensor,
    target: Tensor,
    known: Tensor,
    gamma: float = 2.0,
    class_weights: Sequence[float] | None = None,
) -> Tensor:
    """Mean over pixels of  -w_class (1 - p)^gamma log p,  p the probability of the right class.

    Parameters
    ----------
    logits : Tensor of shape (N, K, \\*P)
    target : Tensor of shape (N, \\*P), int64
    known : Tensor of shape (N, \\*P), float32
        0 leaves a pixel out.
    gamma : float
    class_weights : sequence of K float, optional
        The paper's alpha. They do not change what the sum is divided by.

    Returns
    -------
    Tensor of shape ()

    References
    ----------
    Lin, Goyal, Girshick, He, Dollár, Focal loss for dense object detection, ICCV 2017,
    doi:10.1109/ICCV.2017.324
    """
    surprise = functional.cross_entropy(logits, target, reduction="none")
    # 1 - p without loss of digits where p is nearly 1; a power below 1 has no slope at 0.
    rest = (-torch.expm1(-surprise)).clamp(min=1e-12)
    values = rest**gamma * surprise
    if class_weights is not None:
        alpha = torch.tensor(class_weights, dtype=values.dtype, device=target.device)
        values = alpha[target] * values
    return weighted_mean(values, known)
