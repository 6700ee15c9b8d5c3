"""Dice loss: overlap of each class, by its probabilities."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def dice(
    logits: Tensor, target: Tensor, known: Tensor, background: bool = False, smooth: float = 1.0
) -> Tensor:
    """1 - mean over classes of  (2 sum p y + smooth) / (sum p + sum y + smooth).

    Sums go over the pixels of the whole batch, so that a patch without a class does not decide.

    Parameters
    ----------
    logits : Tensor of shape (N, K, \\*P)
    target : Tensor of shape (N, \\*P), int64
    known : Tensor of shape (N, \\*P), float32
        0 leaves a pixel out.
    background : bool
        Whether class 0 counts.
    smooth : float

    Returns
    -------
    Tensor of shape ()

    References
    ----------
    Milletari, Navab, Ahmadi, V-Net, 3DV 2016, doi:10.1109/3DV.2016.79 (with squares below)
    """
    probability = torch.softmax(logits, 1)
    wanted = functional.one_hot(target, logits.shape[1]).movedim(-1, 1).to(probability.dtype)
    mask = known[:, None]
    axes = [0, *range(2, logits.ndim)]
    both = (probability * wanted * mask).sum(axes)
    each = (probability * mask).sum(axes) + (wanted * mask).sum(axes)
    overlap = (2 * both + smooth) / (each + smooth).clamp(min=1e-12)
    return 1 - overlap[0 if background else 1 :].mean()
