"""Variation of information: what is unknown of one partition when the other is known, in bits.

References
----------
Meila, Comparing clusterings - an information based distance, Journal of Multivariate Analysis 98
(2007), doi:10.1016/j.jmva.2006.11.013
"""

from __future__ import annotations

import math

import numpy as np

from pipeline.scores.contingency import Ints, Overlaps


def information_sums(overlaps: Overlaps) -> dict[str, float]:
    """Judged pixels, and over them the sums of bits by which objects are split and merged.

    Pixels outside all true objects are not judged; background of the labels is one region. A sum
    over its pixels is the entropy of labels given truth (split), or of truth given labels (merge).
    """
    inside = overlaps.inside_truth()
    split = _bits(inside.pixels, inside.truth_side().pixels_of_row)
    merge = _bits(inside.pixels, inside.label_side().pixels_of_row)
    return {"judged_px": int(inside.pixels.sum()), "split_bits": split, "merge_bits": merge}


def _bits(pixels: Ints, region: Ints) -> float:
    # fsum rounds once, so that the order of objects does not matter.
    return math.fsum(pixels * np.log2(region / pixels))
