"""Rand error, information and pixels, beside scikit-image and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from score_cases import cases
from skimage.metrics import adapted_rand_error, variation_of_information
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score
from whole import ratios, scores

from pipeline.scores.contingency import Overlaps
from pipeline.scores.pixels import class_sums
from pipeline.scores.rand import rand_sums
from pipeline.scores.settings import Settings

CASES = cases()


@pytest.mark.parametrize("case", [name for name in CASES if "nothing" not in name])
def test_partitions_are_scored_as_by_scikit_image(case: str) -> None:
    truth, labels = CASES[case]
    found = scores(truth, labels)
    error, _, _ = adapted_rand_error(truth, labels)
    split, merge = variation_of_information(truth, labels, ignore_labels=(0,))
    assert found["rand_error"] == pytest.approx(error, abs=1e-12)
    assert found["voi_split"] == pytest.approx(split, abs=1e-12)
    assert found["voi_merge"] == pytest.approx(merge, abs=1e-12)


def test_a_truth_that_is_found_as_nothing_is_merged_with_the_background() -> None:
    truth, labels = CASES["nothing found"]
    found = scores(truth, labels)
    assert (found["rand_error"], found["voi_split"], found["voi_merge"]) == (0, 0, 0)


@pytest.mark.parametrize("case", ["nothing true", "nothing at all"])
def test_partitions_without_a_true_object_have_no_score(case: str) -> None:
    """As in scikit-image, which warns of 0 / 0 on the way."""
    truth, labels = CASES[case]
    with np.errstate(all="ignore"):
        assert math.isnan(adapted_rand_error(truth, labels)[0])
    found = scores(truth, labels)
    assert all(math.isnan(found[name]) for name in ("rand_error", "voi_split", "voi_merge"))


def test_pairs_of_pixels_are_exact_beyond_64_bits() -> None:
    huge = np.array([3 * 10**9, 7 * 10**9], np.int64)
    one = np.ones(2, np.uint64)
    table = Overlaps(np.zeros(2, np.int64), one, np.array([1, 2], np.uint64), huge)
    assert rand_sums(table)["rand_truth"] == float(10**10 * (10**10 - 1))
    both = sum(int(n) * (int(n) - 1) for n in huge)
    assert rand_sums(table)["rand_both"] == float(both)


@pytest.mark.parametrize("case", CASES)
def test_foreground_is_scored_as_by_scikit_learn(case: str) -> None:
    truth, labels = CASES[case]
    found = scores(truth, labels)
    pair = (truth > 0).ravel(), (labels > 0).ravel()
    reference = {
        "foreground_iou": jaccard_score,
        "foreground_dice": f1_score,
        "foreground_precision": precision_score,
        "foreground_recall": recall_score,
    }
    for name, score in reference.items():
        # jaccard_score takes no nan: nothing of nothing is asked apart.
        value = score(*pair, zero_division=0 if score is jaccard_score else np.nan)
        if not pair[0].any() and not pair[1].any():
            value = math.nan
        assert found[name] == pytest.approx(value, nan_ok=True), name


def test_classes_are_scored_as_by_scikit_learn() -> None:
    random = np.random.default_rng(1)
    truth, labels = random.integers(0, 4, (2, 60, 50))
    labels[truth == 3] = 1
    labels[labels == 3] = 0
    settings = Settings(classes=("glass", "cells", "debris", "fibres"))
    table = Overlaps.of_tile(0, truth, labels)
    borders = {
        f"{name}/{count}": 0.0
        for name in settings.classes
        for count in ("border_labels", "border_labels_near", "border_truth", "border_truth_near")
    }
    found = ratios(class_sums(table, settings.classes) | borders, settings)
    judged = truth > 0  # 0 in the truth is not annotated
    pair = truth[judged], labels[judged]
    for number, name in enumerate(settings.classes, start=1):
        at = {"labels": [number], "average": None}
        assert found[f"{name}_recall"] == pytest.approx(
            recall_score(*pair, zero_division=np.nan, **at)[0], nan_ok=True
        )
        assert found[f"{name}_precision"] == pytest.approx(
            precision_score(*pair, zero_division=np.nan, **at)[0], nan_ok=True
        )
        assert found[f"{name}_dice"] == pytest.approx(
            f1_score(*pair, zero_division=np.nan, **at)[0], nan_ok=True
        )
        if number < 4:
            assert found[f"{name}_iou"] == pytest.approx(
                jaccard_score(*pair, zero_division=0, **at)[0]
            )
    assert math.isnan(found["fibres_iou"])  # is nowhere, and does not count in the mean
    assert found["mean_iou"] == pytest.approx(
        jaccard_score(*pair, labels=[1, 2, 3], average="macro")
    )
    assert found["accuracy"] == pytest.approx((pair[0] == pair[1]).mean())
