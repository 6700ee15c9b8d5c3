"""Which label is which true object: pairs by intersection over union, one to one.

From IoU 1/2 on a label overlaps one object so much that no other can compete, but for an object
that is cut into two exact halves, of which the first counts. Below, the largest number of pairs is
found by assignment, and among those the largest sum of IoU.

References
----------
Schmidt, Weigert, Broaddus, Myers, Cell detection with star-convex polygons, MICCAI 2018,
doi:10.1007/978-3-030-00934-2_30
Caicedo et al., Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl,
Nature Methods 16 (2019), doi:10.1038/s41592-019-0612-7
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching

from pipeline.scores.contingency import Overlaps, Side

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

#: Thresholds have no more digits behind the point, so that comparisons are exact in 64 bits.
DIGITS = 4
#: Largest table of objects against labels that compete.
MOST_CELLS = 4_000_000


@dataclass(frozen=True, slots=True)
class Candidates:
    """Every pair of a true object and a label that share pixels.

    Parameters
    ----------
    truth_side, label_side : Side
    truth, label : ndarray of shape (n,), int64
        Positions in the sides; sorted by truth, then label.
    common, union : ndarray of shape (n,), int64
        px
    """

    truth_side: Side
    label_side: Side
    truth: Ints
    label: Ints
    common: Ints
    union: Ints

    @property
    def iou(self) -> Floats:
        return self.common / self.union

    def reach(self, threshold: Fraction, *, strictly: bool = False) -> NDArray[np.bool_]:
        """Which pairs have an IoU of at least a threshold (or more than it), in whole numbers."""
        left = self.common * threshold.denominator
        right = self.union * threshold.numerator
        return left > right if strictly else left >= right


def find_candidates(overlaps: Overlaps) -> Candidates:
    """List the pairs of a table that are no background."""
    truth_side, label_side = overlaps.truth_side(), overlaps.label_side()
    both = (overlaps.truth != 0) & (overlaps.label != 0)
    truth, label = truth_side.of_row[both], label_side.of_row[both]
    common = overlaps.pixels[both]
    union = truth_side.pixels[truth] + label_side.pixels[label] - common
    return Candidates(truth_side, label_side, truth, label, common, union)


def match(candidates: Candidates, threshold: Fraction) -> Ints:
    """Pair objects one to one.

    Parameters
    ----------
    candidates : Candidates
    threshold : Fraction
        Smallest IoU of a pair, above 0, of at most `DIGITS` digits.

    Returns
    -------
    ndarray of shape (pairs,), int64
        Which candidates are pairs, ascending.
    """
    good = np.flatnonzero(candidates.reach(threshold))
    if threshold >= Fraction(1, 2):
        # Only exact halves compete: two of one object, or two objects under one label.
        good = good[np.unique(candidates.truth[good], return_index=True)[1]]
        return np.sort(good[np.unique(candidates.label[good], return_index=True)[1]])
    return _assign(candidates, good)


def match_sums(candidates: Candidates, thresholds: Sequence[Fraction]) -> dict[str, float]:
    """What the scores of one image are made of: numbers of objects, pairs, and sums of IoU."""
    sums: dict[str, float] = {
        "truth_objects": candidates.truth_side.count,
        "label_objects": candidates.label_side.count,
    }
    iou = candidates.iou
    for threshold in thresholds:
        pairs = match(candidates, threshold)
        sums[f"pairs_{spell(threshold)}"] = len(pairs)
        sums[f"iou_{spell(threshold)}"] = math.fsum(iou[pairs])
    return sums


def spell(threshold: Fraction) -> str:
    """A threshold as a decimal of two digits, or as many as it has."""
    text = f"{float(threshold):.{DIGITS}f}".rstrip("0")
    return text + "0" * (2 - len(text.partition(".")[2]))


def _assign(candidates: Candidates, good: Ints) -> Ints:
    """The most pairs, and of those the largest sum of IoU, in every group of objects that compete.

    Nearly all groups are one pair. A group that is too large for a table of all against all is
    solved by sparse assignment, which is slower.
    """
    if not len(good):
        return good
    objects, rows = np.unique(candidates.truth[good], return_inverse=True)
    labels, columns = np.unique(candidates.label[good], return_inverse=True)
    shape = (len(objects) + len(labels),) * 2
    edges = coo_array((np.ones(len(good), np.int8), (rows, columns + len(objects))), shape)
    _, group_of_node = connected_components(edges.tocsr(), directed=False)
    group = group_of_node[rows]
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    sizes = np.diff(np.append(starts, len(order)))
    kept = [order[starts[sizes == 1]]]
    for first, size in zip(starts[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
        here = order[first : first + size]
        kept.append(here[_solve(rows[here], columns[here], candidates.iou[good[here]])])
    assigned: Ints = np.sort(good[np.concatenate(kept)])
    return assigned


def _solve(objects: Ints, labels: Ints, iou: Floats) -> Ints:
    """Which pairs of one group are taken."""
    names, rows = np.unique(objects, return_inverse=True)
    others, columns = np.unique(labels, return_inverse=True)
    shape = len(names), len(others)
    # One pair more is worth more than any IoU of all pairs.
    worth = 1.0 + iou / (2 * min(shape))
    found: Any
    if shape[0] * shape[1] <= MOST_CELLS:
        table = np.zeros(shape)
        table[rows, columns] = worth
        found = linear_sum_assignment(table, maximize=True)
    else:
        # An object may also stay alone, so that all can be assigned.
        alone = np.arange(shape[0])
        values = np.concatenate([2.0 - worth, np.full(shape[0], 2.0)])
        places = np.concatenate([rows, alone]), np.concatenate([columns, shape[1] + alone])
        costs = coo_array((values, places), (shape[0], shape[0] + shape[1])).tocsr()
        found = min_weight_full_bipartite_matching(costs)
    partner = np.full(shape[0], -1, np.int64)
    partner[found[0]] = found[1]
    taken: Ints = np.flatnonzero(partner[rows] == columns)
    return taken
