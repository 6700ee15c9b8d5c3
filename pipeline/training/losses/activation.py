"""Learning where from tags that only say what: activations of classes, and seeds in them.

The network is asked which classes an image shows, by the mean score of the pixels that it takes
for each; the pixels that decide are the classes' activations. Where they are high, after they were
fitted to the colours, lie seeds, and those teach the pixels.

References
----------
Zhou, Khosla, Lapedriza, Oliva, Torralba, Learning deep features for discriminative localization,
CVPR 2016, doi:10.1109/CVPR.2016.319
Araslanov, Roth, Single-stage semantic segmentation from image labels, CVPR 2020,
doi:10.1109/CVPR42600.2020.00431
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.training.losses.shifts import neighbourhood, shifted

#: Added to sums of probabilities, so that a class without any has a score.
ONE_PIXEL = 1.0
#: Smallest share of an image whose logarithm is taken.
TINY_SHARE = 0.01
#: How far apart pixels are compared, in px.
STEPS = (1, 2, 4)
#: Of a pixel's standard deviation of colours around it: differences of so much fall to 1/e.
SHARPNESS = 0.1


def tag_loss(
    logits: Tensor,
    tags: Tensor,
    background: int = 0,
    size_weight: float = 1.0,
    size_power: float = 3.0,
) -> Tensor:
    """Cross-entropy of "the image shows class k", for each class k but the background.

    With p_k(i) the probability of class k at pixel i, s_k(i) its logit less that of the background
    and m_k the mean of p_k, the score is

        sum_i p_k(i) s_k(i) / (1 + sum_i p_k(i)) + size_weight (1 - m_k)^size_power log(0.01 + m_k)

    the second summand for classes that the image shows alone: it keeps them from one bright point.

    Parameters
    ----------
    logits : Tensor of shape (N, K, \\*P)
    tags : Tensor of shape (N, K)
        1, 0, or -1 where nothing is known; of the background nothing is.
    background : int
        Which class it is.
    size_weight, size_power : float

    Returns
    -------
    Tensor of shape ()
        Mean over what is known; 0 if nothing is.

    References
    ----------
    Araslanov and Roth 2020. There the background has a constant logit, and classes that an image
    does not show have the second summand, too.
    """
    known = tags >= 0
    if not known.any():
        return 0 * logits.sum()
    flat = logits.flatten(2)
    p = torch.softmax(flat, 1)
    above = flat - flat[:, background : background + 1]
    score = (p * above).sum(2) / (ONE_PIXEL + p.sum(2))
    if size_weight > 0:
        share = p.mean(2)
        small = (1 - share) ** size_power * torch.log(TINY_SHARE + share)
        score = score + size_weight * small * (tags == 1)
    values = functional.binary_cross_entropy_with_logits(
        score, tags.clamp(min=0).to(score.dtype), reduction="none"
    )
    return values[known].mean()


def seed_loss(
    logits: Tensor,
    tags: Tensor,
    colours: Tensor,
    background: int = 0,
    share: float = 0.6,
    rounds: int = 10,
) -> Tensor:
    """Cross-entropy at the seeds, each class of a patch weighing the same.

    Patches in which a named class, or the background, has no seed are left out: alone, the seeds
    of the others would teach that it is nowhere.

    Parameters
    ----------
    logits : Tensor of shape (N, K, \\*P)
    tags, colours, background, share, rounds
        As for `seeds`.

    Returns
    -------
    Tensor of shape ()
        0 where there is no seed.
    """
    found = seeds(logits.detach(), tags, colours, background, share, rounds)
    surprise = functional.cross_entropy(logits, found.clamp(min=0), reduction="none").flatten(1)
    own = torch.stack([(found == k).flatten(1) for k in range(logits.shape[1])], 1)
    size = own.sum(2)
    named = _named(tags, background)
    there = (size > 0) & (~named | (size > 0)).all(1, keepdim=True)
    values = (surprise[:, None] * own).sum(2) / size.clamp(min=1)
    return (values * there).sum() / there.sum().clamp(min=1)


def seeds(
    logits: Tensor,
    tags: Tensor,
    colours: Tensor,
    background: int = 0,
    share: float = 0.6,
    rounds: int = 10,
) -> Tensor:
    """Class of the pixels that are sure: it is the most probable of the classes that the tags
    name (or the background), and has more than `share` of its highest value in the patch. The
    paper asks for a least probability besides.

    Parameters
    ----------
    logits : Tensor of shape (N, K, \\*P)
    tags : Tensor of shape (N, K)
    colours : Tensor of shape (N, C, \\*P)
    background : int
        Which class it is.
    share : float
    rounds : int
        Of `refine`.

    Returns
    -------
    Tensor of shape (N, \\*P), int64
        -1 elsewhere, and in patches without known tags.
    """
    told = (tags >= 0).any(1)
    allowed = _named(tags, background)
    shape = (*allowed.shape, *(1,) * (logits.ndim - 2))
    p = torch.softmax(logits, 1) * allowed.reshape(shape)
    p = refine(p, colours, rounds)
    highest = p.flatten(2).amax(2).reshape(shape)
    value, best = p.max(1)
    limit = share * torch.gather(highest.expand_as(p), 1, best[:, None])[:, 0]
    sure = (value > limit) & told.reshape(-1, *(1,) * (logits.ndim - 2))
    return torch.where(sure, best, -1)


def _named(tags: Tensor, background: int) -> Tensor:
    """Classes that an image may show: those of its tags, and the background."""
    found = tags == 1
    found[:, background] = True
    return found


def refine(p: Tensor, colours: Tensor, rounds: int) -> Tensor:
    """Let values flow between near pixels of alike colours: p(i) becomes sum_j a(i, j) p(j).

    a(i, j) is the softmax, over the neighbours j of i in `STEPS` px, of the mean over channels of
    -|colour(i) - colour(j)| / (0.1 d(i)), d the standard deviation of the neighbours' colours.

    Parameters
    ----------
    p : Tensor of shape (N, K, \\*P)
    colours : Tensor of shape (N, C, \\*P)
    rounds : int

    References
    ----------
    Araslanov and Roth 2020 (pixel-adaptive mask refinement), there with more distances and with
    the deviation of the 3 x 3 pixels around.
    """
    offsets = [o for step in STEPS for o in neighbourhood(p.ndim - 2, step)]
    around = torch.stack([shifted(colours, o) for o in offsets])
    spread = around.std(0, correction=0)
    unlike = (around - colours).abs() / (1e-6 + SHARPNESS * spread)
    weight = torch.softmax(-unlike.mean(2, keepdim=True), 0)
    for _ in range(rounds):
        p = sum((w * shifted(p, o) for w, o in zip(weight, offsets, strict=True)), 0 * p)
    return p
