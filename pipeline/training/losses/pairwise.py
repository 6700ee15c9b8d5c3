"""Pairwise loss: near pixels of alike colours are of one class."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.training.losses.shifts import half_neighbourhood, pair


def pairwise(
    logits: Tensor, colours: Tensor, reach_px: int = 2, colour: float = 0.1, alike: float = 0.3
) -> Tensor:
    """Mean of -log sum_k p_k(i) p_k(j) over pairs of pixels i, j of alike colours.

    Pairs lie `reach_px` apart on one axis or diagonally; they are alike if
    exp(-|colour(i) - colour(j)| / `colour`), with Euclid's distance, is at least `alike`.

    Parameters
    ----------
    logits : Tensor of shape (N, K, \\*P)
    colours : Tensor of shape (N, C, \\*P)
    reach_px : int
    colour, alike : float

    Returns
    -------
    Tensor of shape ()
        0 where no colours are alike.

    References
    ----------
    Tian, Shen, Wang, Chen, BoxInst, CVPR 2021, doi:10.1109/CVPR46437.2021.00540.
    Here the mean is over pairs that are alike, anywhere.
    """
    logs = torch.log_softmax(logits, 1)
    total, count = logits.new_zeros(()), logits.new_zeros(())
    for offset in half_neighbourhood(logits.ndim - 2, reach_px):
        if any(abs(o) >= n for o, n in zip(offset, logits.shape[2:], strict=True)):
            continue  # the patch is smaller
        a, b = pair(colours, offset)
        likeness = torch.exp(-(a - b).square().sum(1).sqrt() / colour)
        chosen = (likeness >= alike).to(logits.dtype)
        first, second = pair(logs, offset)
        total = total - (chosen * torch.logsumexp(first + second, 1)).sum()
        count = count + chosen.sum()
    return total / count.clamp(min=1)
