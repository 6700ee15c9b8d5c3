"""Scores as ratios of sums: of one image, and of all images together ("pooled").

Conventions where something is missing, as the reference implementations have them:

* No pair: precision, recall, F1, AP, panoptic quality and the IoU of pairs are 0, also where there
  is no object on either side (stardist.matching).
* Adapted Rand error without two pixels of one object, information without a pixel of an object:
  nan (skimage.metrics divides 0 by 0).
* Pixels: a ratio of nothing to nothing is nan (scikit-learn with zero_division=nan). Borders: nan
  where neither side has one, precision or recall nan where one has none, and F1 0.

A mean over images leaves nan out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pipeline.scores.boundary import COUNTS, OBJECTS
from pipeline.scores.matching import spell

Floats = NDArray[np.float64]
#: Sums by name, each of shape (n,): one entry an image, or a set of images.
Sums = Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class Measure:
    """A score.

    Parameters
    ----------
    name : str
        As tables have it.
    text : str
        For people.
    of : callable
        Takes sums, each of shape (n,), and returns the scores, of shape (n,).
    """

    name: str
    text: str
    of: Callable[[Sums], Floats]


def object_measures(thresholds: Sequence[Fraction]) -> list[Measure]:
    """Scores of objects."""
    names = [spell(threshold) for threshold in thresholds]
    found = [measure for name in names for measure in _at_threshold(name)]
    if len(names) > 1:
        span = f"{names[0]}:{names[-1]}"
        found.append(Measure("ap_mean", f"AP {span}", lambda s: _mean_ap(s, names)))
    return [
        *found,
        *_panoptic(),
        Measure("rand_error", "adapted Rand error", _rand_error),
        Measure("voi_split", "VOI split, bits", lambda s: _ratio(s["split_bits"], s["judged_px"])),
        Measure("voi_merge", "VOI merge, bits", lambda s: _ratio(s["merge_bits"], s["judged_px"])),
        *_borders(OBJECTS, "", ""),
        *_pixels("foreground", "foreground "),
    ]


def class_measures(names: Sequence[str]) -> list[Measure]:
    """Scores of maps of classes."""
    ious = [_iou(name) for name in names]
    return [
        Measure("accuracy", "pixels right", lambda s: _ratio(s["right_px"], s["judged_px"])),
        Measure("mean_iou", "mean IoU of classes", lambda s: _mean([one(s) for one in ious])),
        *(
            measure
            for name in names
            for measure in (
                *_pixels(name, f"{name} "),
                *_borders(name, f"{name}_", f"{name} "),
            )
        ),
    ]


def _at_threshold(name: str) -> list[Measure]:
    def ratio(above: float, of: Callable[[Floats, Sums], Floats]) -> Callable[[Sums], Floats]:
        # stardist calls a ratio without a pair 0.
        return lambda s: _ratio(above * s[f"pairs_{name}"], of(s[f"pairs_{name}"], s), 0.0)

    return [
        Measure(f"ap_{name}", f"AP {name}", ratio(1, lambda n, s: _objects(s) - n)),
        Measure(
            f"precision_{name}", f"precision {name}", ratio(1, lambda _, s: s["label_objects"])
        ),
        Measure(f"recall_{name}", f"recall {name}", ratio(1, lambda _, s: s["truth_objects"])),
        Measure(f"f1_{name}", f"F1 {name}", ratio(2, lambda _, s: _objects(s))),
        Measure(
            f"matched_iou_{name}",
            f"IoU of pairs {name}",
            lambda s: _ratio(s[f"iou_{name}"], s[f"pairs_{name}"], 0.0),
        ),
    ]


def _mean_ap(sums: Sums, names: Sequence[str]) -> Floats:
    pairs = [sums[f"pairs_{name}"] for name in names]
    return _mean([_ratio(one, _objects(sums) - one, 0.0) for one in pairs])


def _objects(sums: Sums) -> Floats:
    return sums["truth_objects"] + sums["label_objects"]


def _panoptic() -> list[Measure]:
    pairs = "panoptic_pairs"
    return [
        Measure("pq", "PQ", lambda s: _ratio(2 * s["panoptic_iou"], _objects(s), 0.0)),
        Measure("sq", "SQ", lambda s: _ratio(s["panoptic_iou"], s[pairs], 0.0)),
        Measure("rq", "RQ", lambda s: _ratio(2 * s[pairs], _objects(s), 0.0)),
    ]


def _rand_error(sums: Sums) -> Floats:
    return 1 - _ratio(2 * sums["rand_both"], sums["rand_truth"] + sums["rand_labels"])


def _iou(prefix: str) -> Callable[[Sums], Floats]:
    both, truth, labels = (f"{prefix}/{part}" for part in ("both", "truth", "labels"))
    return lambda s: _ratio(s[both], s[truth] + s[labels] - s[both])


def _pixels(prefix: str, text: str) -> list[Measure]:
    both, truth, labels = (f"{prefix}/{part}" for part in ("both", "truth", "labels"))
    return [
        Measure(f"{prefix}_iou", f"{text}IoU", _iou(prefix)),
        Measure(
            f"{prefix}_dice", f"{text}Dice", lambda s: _ratio(2 * s[both], s[truth] + s[labels])
        ),
        Measure(f"{prefix}_precision", f"{text}precision", lambda s: _ratio(s[both], s[labels])),
        Measure(f"{prefix}_recall", f"{text}recall", lambda s: _ratio(s[both], s[truth])),
    ]


def _borders(group: str, prefix: str, text: str) -> list[Measure]:
    found, found_near, wanted, wanted_near = (f"{group}/{name}" for name in COUNTS)

    def f1(sums: Sums) -> Floats:
        precision = _ratio(sums[found_near], sums[found], 0.0)
        recall = _ratio(sums[wanted_near], sums[wanted], 0.0)
        score = _ratio(2 * precision * recall, precision + recall, 0.0)
        return np.where(sums[found] + sums[wanted] > 0, score, np.nan)

    return [
        Measure(f"{prefix}boundary_f1", f"{text}boundary F1", f1),
        Measure(
            f"{prefix}boundary_precision",
            f"{text}boundary precision",
            lambda s: _ratio(s[found_near], s[found]),
        ),
        Measure(
            f"{prefix}boundary_recall",
            f"{text}boundary recall",
            lambda s: _ratio(s[wanted_near], s[wanted]),
        ),
    ]


def _ratio(above: Floats, below: Floats, of_nothing: float = np.nan) -> Floats:
    """above / below, and a stated number where below is 0."""
    found = np.full(np.shape(below), of_nothing)
    np.divide(above, below, out=found, where=np.asarray(below) != 0)
    return found


def _mean(scores: Sequence[Floats]) -> Floats:
    """Mean over the first axis without nan; nan where there is nothing else."""
    stack = np.stack(scores)
    known = ~np.isnan(stack)
    return _ratio(np.where(known, stack, 0).sum(axis=0), known.sum(axis=0).astype(np.float64))
