"""Pixels of a class, or of all objects: how many are in both, in truth, in labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.scores.contingency import Overlaps


def foreground_sums(overlaps: Overlaps) -> dict[str, float]:
    """Pixels of any object, in px."""
    in_truth, in_labels = overlaps.truth != 0, overlaps.label != 0
    return {
        "foreground/both": int(overlaps.pixels[in_truth & in_labels].sum()),
        "foreground/truth": int(overlaps.pixels[in_truth].sum()),
        "foreground/labels": int(overlaps.pixels[in_labels].sum()),
    }


def class_sums(overlaps: Overlaps, names: Sequence[str]) -> dict[str, float]:
    """Pixels of every class of a map, in px; class i of `names` has the number i + 1.

    Pixels where truth is 0 are not annotated and not judged. Where labels are 0 they have no class,
    which is wrong.
    """
    judged = overlaps.inside_truth()
    right = judged.truth == judged.label
    sums: dict[str, float] = {
        "judged_px": int(judged.pixels.sum()),
        "right_px": int(judged.pixels[right].sum()),
    }
    for number, name in enumerate(names, start=1):
        in_truth, in_labels = judged.truth == number, judged.label == np.uint64(number)
        sums[f"{name}/both"] = int(judged.pixels[in_truth & in_labels].sum())
        sums[f"{name}/truth"] = int(judged.pixels[in_truth].sum())
        sums[f"{name}/labels"] = int(judged.pixels[in_labels].sum())
    return sums
