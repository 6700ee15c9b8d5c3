"""What a loss may know of patches beside outputs and targets. Needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Scene:
    """N patches.

    Parameters
    ----------
    colours : Tensor of shape (N, C, \\*P)
        The normalised image, before its look was varied.
    tags : Tensor of shape (N, K), int8
        Of each class: 1 if the patch shows it, 0 if not, -1 where that is not known.
    background : int
        Which of the head's classes it is; 0 where there is none.
    maps : dict of Tensor of shape (N, \\*P)
        Weights of pixels.
    """

    colours: Tensor
    tags: Tensor
    background: int = 0
    maps: Mapping[str, Tensor] = field(default_factory=dict)
