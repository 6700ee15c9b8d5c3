"""Adapted Rand error: 1 - F1 of pairs of pixels that belong together.

References
----------
Arganda-Carreras et al., Crowdsourcing the creation of image segmentation algorithms for
connectomics, Frontiers in Neuroanatomy 9 (2015), doi:10.3389/fnana.2015.00142
"""

from __future__ import annotations

from pipeline.scores.contingency import Ints, Overlaps

#: The largest sum of squares that is certain to fit 64 bits.
MOST = 2**63 - 1


def rand_sums(overlaps: Overlaps) -> dict[str, float]:
    """Ordered pairs of pixels within a true object: together in truth, in labels, in both.

    Pixels outside all true objects are not judged; background of the labels is one region.
    """
    judged = overlaps.inside_truth()
    return {
        "rand_both": float(_pairs(judged.pixels)),
        "rand_truth": float(_pairs(judged.truth_side().pixels)),
        "rand_labels": float(_pairs(judged.label_side().pixels)),
    }


def _pairs(pixels: Ints) -> int:
    """Sum of n (n - 1), exactly."""
    largest, total = int(pixels.max(initial=0)), int(pixels.sum())
    if largest * total <= MOST:
        return int((pixels * (pixels - 1)).sum())
    return sum(n * (n - 1) for n in pixels.tolist())
