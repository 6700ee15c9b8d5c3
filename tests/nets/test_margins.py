"""How many pixels rounding could give another class, and the epsilon that most of them keep."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.nets.margins import (
    LIMITS,
    count_distances,
    count_margins,
    epsilon_of_most,
    uncertain_pixels,
)

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("epsilon", [0.0, 3e-8, 2e-4, 0.03, 0.6, float("nan")])
def test_uncertain_pixels_are_those_of_near_scores(epsilon: float) -> None:
    scores = (RNG.random((3, 40, 50)) * 10.0 ** RNG.integers(-7, 1, (40, 50))).astype(np.float32)
    second, best = np.sort(scores.astype(np.float64), axis=0)[-2:]
    exactly = np.count_nonzero(best - second <= 2 * epsilon) if epsilon > 0 else 0
    found = uncertain_pixels(count_margins(scores), epsilon, 2000)
    assert found >= exactly
    if 2 * epsilon <= LIMITS[-1]:
        above = LIMITS[np.searchsorted(LIMITS, 2 * epsilon)] if epsilon else -1
        assert found == np.count_nonzero(best - second <= above)
    else:
        assert found == 2000


def test_few_far_pixels_do_not_make_epsilon() -> None:
    distances = np.full(1000, 2e-6)
    distances[:7] = 0.3
    epsilon, farther = epsilon_of_most(count_distances(distances), 1000, 0.3)
    assert 2e-6 <= epsilon < 4e-6
    assert farther == 7


@pytest.mark.parametrize(("largest", "pixels"), [(0.0, 0), (2e-9, 100), (0.5, 100), (7.0, 100)])
def test_one_distance_of_all_pixels_is_kept_by_all(largest: float, pixels: int) -> None:
    epsilon, farther = epsilon_of_most(count_distances(np.full(pixels, largest)), pixels, largest)
    assert farther == 0
    assert epsilon == largest


def test_more_than_a_hundredth_of_far_pixels_make_epsilon() -> None:
    distances = np.r_[np.zeros(50), np.full(50, 0.3)]
    epsilon, farther = epsilon_of_most(count_distances(distances), 100, 0.3)
    assert (epsilon, farther) == (0.3, 0)
