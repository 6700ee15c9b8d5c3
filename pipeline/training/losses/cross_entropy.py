"""Cross-entropy of classes, weighted or not."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.training.losses.means import weighted_mean


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    known: Tensor,
    class_weights: Sequence[float] | None = None,
    border: Tensor | None = None,
) -> Tensor:
    """Mean of -log p(class) over pixels, each with the weight  w_class + border.

    Parameters
    ----------
    logits : Tensor of shape (N, K, \\*P)
    target : Tensor of shape (N, \\*P), int64
        Classes from 0.
    known : Tensor of shape (N, \\*P), float32
        0 leaves a pixel out.
    class_weights : sequence of K float, optional
        1 each by default.
    border : Tensor of shape (N, \\*P), optional
        Weights that are added, see `border_weights`.

    Returns
    -------
    Tensor of shape ()
        Weights are divided by their sum, as torch does with class weights.

    References
    ----------
    Ronneberger, Fischer, Brox, U-Net, MICCAI 2015, doi:10.1007/978-3-319-24574-4_28: equations 1, 2
    """
    surprise = functional.cross_entropy(logits, target, reduction="none")
    weights = torch.ones_like(surprise)
    if class_weights is not None:
        weights = torch.tensor(class_weights, dtype=surprise.dtype, device=target.device)[target]
    if border is not None:
        weights = weights + border
    return weighted_mean(surprise, weights * known)
