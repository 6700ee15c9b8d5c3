"""Panoptic quality of objects: how many were found (RQ), times how well they fit (SQ).

References
----------
Kirillov, He, Girshick, Rother, Dollár, Panoptic segmentation, CVPR 2019,
doi:10.1109/CVPR.2019.00963
"""

from __future__ import annotations

import math
from fractions import Fraction

from pipeline.scores.matching import Candidates


def panoptic_sums(candidates: Candidates) -> dict[str, float]:
    """Pairs of an IoU above 1/2, and the sum of their IoU.

    The paper wants more than 1/2, where matching at 0.5 takes 1/2 too: they differ for objects that
    are found by an exact half.
    """
    pairs = candidates.reach(Fraction(1, 2), strictly=True)
    return {"panoptic_pairs": int(pairs.sum()), "panoptic_iou": math.fsum(candidates.iou[pairs])}
