"""Intervals of the bootstrap, beside scipy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from pipeline.scores import intervals
from pipeline.scores.intervals import summarize
from pipeline.scores.measures import Measure

SHARE = Measure("share", "share", lambda s: s["a"] / np.where(s["b"] > 0, s["b"], np.nan))


def some(count: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    b = random.integers(20, 400, count).astype(float)
    return {
        "a": random.binomial(b.astype(int), random.uniform(0.5, 0.9, count)).astype(float),
        "b": b,
    }


def test_intervals_are_those_of_scipy_but_for_the_draws() -> None:
    sums = some(40)
    (found,) = summarize(sums, [SHARE], resamples=20000)
    pooled = stats.bootstrap(
        (sums["a"], sums["b"]),
        lambda a, b, axis=-1: a.sum(axis) / b.sum(axis),
        paired=True,
        method="percentile",
        n_resamples=20000,
        rng=np.random.default_rng(7),
    ).confidence_interval
    assert found.pooled.value == pytest.approx(sums["a"].sum() / sums["b"].sum())
    assert (found.pooled.low, found.pooled.high) == pytest.approx(tuple(pooled), abs=2e-3)
    mean = stats.bootstrap(
        (sums["a"] / sums["b"],),
        np.mean,
        method="percentile",
        n_resamples=20000,
        rng=np.random.default_rng(7),
    ).confidence_interval
    assert found.mean.value == pytest.approx((sums["a"] / sums["b"]).mean())
    assert (found.mean.low, found.mean.high) == pytest.approx(tuple(mean), abs=2e-3)


def test_the_same_seed_gives_the_same_bits_however_many_are_drawn_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = summarize(some(30), [SHARE])
    assert summarize(some(30), [SHARE]) == whole
    monkeypatch.setattr(intervals, "DRAWS", 70)
    (parts,) = summarize(some(30), [SHARE])
    assert parts.pooled.low == pytest.approx(whole[0].pooled.low)
    assert parts.mean.high == pytest.approx(whole[0].mean.high)


def test_images_without_a_score_are_left_out_of_the_mean() -> None:
    sums = {"a": np.array([1.0, 0, 3]), "b": np.array([2.0, 0, 4])}
    (found,) = summarize(sums, [SHARE])
    assert found.images == 2
    assert found.mean.value == pytest.approx((0.5 + 0.75) / 2)
    assert found.pooled.value == pytest.approx(4 / 6)
    assert 0.5 <= found.mean.low <= found.mean.high <= 0.75


def test_one_image_has_no_interval() -> None:
    (found,) = summarize({"a": np.array([1.0]), "b": np.array([2.0])}, [SHARE])
    assert found.pooled.value == found.mean.value == 0.5
    assert math.isnan(found.pooled.low)
    assert math.isnan(found.mean.high)
