"""What became of every object: paired, missed or invented."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.scores.contingency import Ints, Numbers
from pipeline.scores.matching import Candidates, match

#: Smallest IoU of a pair.
VERDICT_AT = Fraction(1, 2)
KINDS = ("pair", "missed", "invented")
_FIELDS: dict[str, Any] = {
    "image": pa.string(),
    "frame": pa.int64(),
    "kind": pa.string(),
    "truth": pa.uint64(),
    "label": pa.uint64(),
    "iou": pa.float64(),
    "truth_px": pa.int64(),
    "label_px": pa.int64(),
}
SCHEMA = pa.schema(_FIELDS)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """One row a pair, a missed object, or an invented one.

    Parameters
    ----------
    kind : ndarray of shape (n,), int8
        Position in `KINDS`.
    frame : ndarray of shape (n,), int64
    truth, label : ndarray of shape (n,), uint64
        Beside a missed object the label that fits it best, beside an invented one the object that
        fits it best; 0 where they overlap none.
    iou : ndarray of shape (n,), float64
        Of the two numbers.
    truth_px, label_px : ndarray of shape (n,), int64
    """

    kind: NDArray[np.int8]
    frame: Ints
    truth: Numbers
    label: Numbers
    iou: NDArray[np.float64]
    truth_px: Ints
    label_px: Ints

    @classmethod
    def empty(cls) -> Self:
        none = np.empty(0, np.int64)
        number = none.astype(np.uint64)
        return cls(none.astype(np.int8), none, number, number, none.astype(float), none, none)

    def table(self, image: str) -> pa.Table:
        """As rows of `SCHEMA`; null where there is no number."""
        columns: dict[str, Any] = {
            "image": pa.array([image] * len(self.kind), pa.string()),
            "frame": pa.array(self.frame),
            "kind": pa.array([KINDS[kind] for kind in self.kind.tolist()], pa.string()),
            "truth": pa.array(self.truth, mask=self.truth == 0),
            "label": pa.array(self.label, mask=self.label == 0),
            "iou": pa.array(self.iou),
            "truth_px": pa.array(self.truth_px, mask=self.truth == 0),
            "label_px": pa.array(self.label_px, mask=self.label == 0),
        }
        return pa.table(columns, schema=SCHEMA)


def judge(candidates: Candidates) -> Verdicts:
    """Say of every object what became of it, at an IoU of `VERDICT_AT`."""
    pairs = match(candidates, VERDICT_AT)
    truths, labels = candidates.truth_side, candidates.label_side
    missed = truths.number != 0
    missed[candidates.truth[pairs]] = False
    invented = labels.number != 0
    invented[candidates.label[pairs]] = False
    best_of_truth = _best(candidates.truth, candidates, len(missed))
    best_of_label = _best(candidates.label, candidates, len(invented))
    parts = [
        _rows(candidates, 0, candidates.truth[pairs], candidates.label[pairs], pairs),
        _lonely(candidates, 1, np.flatnonzero(missed), best_of_truth),
        _lonely(candidates, 2, np.flatnonzero(invented), best_of_label),
    ]
    return Verdicts(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _best(side: Ints, candidates: Candidates, count: int) -> Ints:
    """The candidate of largest IoU of every region of a side; -1 where there is none."""
    order = np.lexsort((candidates.iou, side))
    best = np.full(count, -1, np.int64)
    best[side[order]] = order  # the last one assigned stays
    return best


def _rows(
    candidates: Candidates, kind: int, truth: Ints, label: Ints, which: Ints
) -> list[NDArray[np.generic]]:
    """Columns of `Verdicts`; a side of -1 is none."""
    truths, labels = candidates.truth_side, candidates.label_side
    here, there = truth >= 0, label >= 0
    iou = np.where(which >= 0, candidates.iou[which] if len(candidates.truth) else 0.0, 0.0)
    return [
        np.full(len(truth), kind, np.int8),
        np.where(here, truths.frame[truth], labels.frame[label]),
        np.where(here, truths.number[truth], np.uint64(0)),
        np.where(there, labels.number[label], np.uint64(0)),
        iou,
        np.where(here, truths.pixels[truth], 0),
        np.where(there, labels.pixels[label], 0),
    ]


def _lonely(
    candidates: Candidates, kind: int, regions: Ints, best: Ints
) -> list[NDArray[np.generic]]:
    which = best[regions]
    if not len(candidates.truth):
        other = which  # all -1
    else:
        other = np.where(
            which >= 0, (candidates.label if kind == 1 else candidates.truth)[which], -1
        )
    if kind == 1:
        return _rows(candidates, kind, regions, other, which)
    return _rows(candidates, kind, other, regions, which)
