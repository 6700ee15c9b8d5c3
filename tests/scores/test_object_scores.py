"""Matching and panoptic quality, beside what stardist 0.9.2 and torchmetrics 1.9.0 answered."""

from __future__ import annotations

import itertools
import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from score_cases import THRESHOLDS, cases
from whole import count, scores, settings_of

from pipeline.scores import matching
from pipeline.scores.intervals import summarize
from pipeline.scores.matching import find_candidates, match
from pipeline.scores.stream import finish
from pipeline.scores.verdicts import KINDS, judge

REFERENCES = json.loads((Path(__file__).parent / "references.json").read_text())
CASES = cases()
SETTINGS = settings_of(*THRESHOLDS)
#: stardist rounds IoU to 32 bits.
CLOSE = 1e-6
NAMES = {"precision": "precision", "recall": "recall", "accuracy": "ap", "f1": "f1"}


def check(found: dict[str, float], said: dict[str, float], percent: int) -> None:
    name = f"{percent / 100:.2f}"
    for theirs, ours in NAMES.items():
        assert found[f"{ours}_{name}"] == pytest.approx(said[theirs], rel=CLOSE), theirs
    iou = found[f"matched_iou_{name}"]
    if percent >= 50:
        assert iou == pytest.approx(said["mean_matched_score"], rel=CLOSE)
    else:  # among as many pairs ours fit best; in theirs, pairs below the threshold weigh too
        assert iou >= said["mean_matched_score"] * (1 - CLOSE)


@pytest.mark.parametrize("case", CASES)
def test_pairs_are_those_of_stardist(case: str) -> None:
    truth, labels = CASES[case]
    counted = finish(count(truth, labels), SETTINGS).sums
    found = scores(truth, labels, SETTINGS)
    for percent, said in zip(THRESHOLDS, REFERENCES["stardist"][case], strict=True):
        pairs = counted[f"pairs_{percent / 100:.2f}"]
        assert pairs == said["tp"]
        assert counted["label_objects"] - pairs == said["fp"]
        assert counted["truth_objects"] - pairs == said["fn"]
        check(found, said, percent)


@pytest.mark.parametrize(("way", "said"), [("pooled", "pooled"), ("mean", "by_image")])
def test_all_cases_together_are_as_in_stardist(way: str, said: str) -> None:
    overall = summarize(all_sums(), SETTINGS.measures(), resamples=10)
    found = {one.measure.name: getattr(one, way).value for one in overall}
    for percent, theirs in zip(THRESHOLDS, REFERENCES[f"stardist_{said}"], strict=True):
        check(found, theirs, percent)
        if way == "mean" and percent != 50:
            continue
        if percent == 50:  # theirs takes an IoU of exactly 1/2 for a pair, the paper does not
            assert found["rq"] <= theirs["f1"]


@pytest.mark.parametrize("case", CASES)
def test_panoptic_quality_is_that_of_torchmetrics(case: str) -> None:
    found = scores(*CASES[case], SETTINGS)
    said = REFERENCES["torchmetrics"][case]
    assert [found["pq"], found["sq"], found["rq"]] == pytest.approx(said, rel=1e-5)


def test_an_exact_half_is_a_pair_for_matching_and_none_for_panoptic_quality() -> None:
    truth, labels = CASES["exact halves"]
    found = finish(count(truth, labels), settings_of(50)).sums
    assert (found["pairs_0.50"], found["panoptic_pairs"]) == (1, 0)
    assert (found["truth_objects"], found["label_objects"]) == (1, 2)


@pytest.mark.parametrize("case", ["nothing true", "nothing found", "nothing at all"])
def test_scores_without_pairs_are_0_as_in_stardist(case: str) -> None:
    found = scores(*CASES[case])
    for name in ("ap_0.50", "precision_0.50", "recall_0.50", "f1_0.50", "pq", "sq", "rq"):
        assert found[name] == 0
    assert found["ap_mean"] == 0


def test_thresholds_are_compared_in_whole_numbers() -> None:
    """11 of 20 px is 0.55, which no sum of floats needs to be."""
    truth, labels = np.ones((1, 20), np.int64), np.zeros((1, 20), np.int64)
    labels[0, :11] = 1
    assert scores(truth, labels, settings_of(55))["ap_0.55"] == 1
    labels[0, 10] = 0
    assert scores(truth, labels, settings_of(55))["ap_0.55"] == 0


@pytest.mark.parametrize("cells", [10**6, 0])
def test_as_many_pairs_as_can_be_below_a_half(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain in which the best pairs first would leave others alone; both ways of solving."""
    monkeypatch.setattr(matching, "MOST_CELLS", cells)
    truth, labels = CASES["chain"]
    candidates = find_candidates(count(truth, labels).overlaps)
    pairs = match(candidates, Fraction(3, 10))
    assert len(pairs) == 6
    assert len(set(candidates.truth[pairs])) == len(set(candidates.label[pairs])) == 6
    random = np.random.default_rng(0)
    truth, labels = random.integers(0, 9, (2, 1, 40)).repeat(3, 2)
    candidates = find_candidates(count(truth, labels).overlaps)
    pairs = match(candidates, Fraction(1, 20))
    assert len(pairs) == 8
    assert candidates.iou[pairs].sum() == pytest.approx(best_sum(candidates, Fraction(1, 20)))


def best_sum(candidates: Any, threshold: Fraction) -> float:
    """By trying all ways to pair eight with eight."""
    table = np.full((9, 9), -math.inf)
    good = candidates.reach(threshold)
    table[candidates.truth[good], candidates.label[good]] = candidates.iou[good]
    ways = itertools.permutations(range(1, 9))
    return max(sum(table[i, j] for i, j in enumerate(way, start=1)) for way in ways)


def test_every_object_has_one_verdict() -> None:
    truth, labels = CASES["dropped and invented"]
    found = judge(count(truth, labels).candidates)
    kinds = [KINDS[kind] for kind in found.kind]
    pairs = [kind == "pair" for kind in kinds]
    assert sorted(found.truth[[kind != "invented" for kind in kinds]]) == list(range(1, 90))
    assert len(set(found.label[[kind != "missed" for kind in kinds]])) == len(kinds) - kinds.count(
        "missed"
    )
    assert (found.iou[pairs] >= 0.5).all()
    assert (kinds.count("missed"), kinds.count("invented")) == (89 // 3, 22)
    assert (found.iou[~np.array(pairs)] < 0.5).all()
    table = found.table("plate/a")
    assert table["label"].null_count == kinds.count("missed")
    assert set(table["image"].to_pylist()) == {"plate/a"}


def all_sums() -> dict[str, np.ndarray]:
    every = [finish(count(*pair), SETTINGS).sums for pair in CASES.values()]
    return {name: np.array([sums[name] for sums in every]) for name in every[0]}
