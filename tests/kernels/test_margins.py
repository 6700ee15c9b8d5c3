"""Margins are counted as sorting the scores of every pixel would."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.nets.margins import LIMITS, count_margins


def by_sorting(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    second, best = np.sort(scores, axis=0)[-2:].astype(np.float64).reshape(2, -1)
    with np.errstate(invalid="ignore"):
        margin = np.where(np.isnan(best - second), 0, best - second)
    return np.array([np.count_nonzero(margin <= limit) for limit in LIMITS])


@pytest.mark.parametrize("shape", [(2, 40, 50), (3, 40, 50), (7, 5, 6, 7)])
@pytest.mark.parametrize("scale", [1e-7, 1e-3, 1.0, 1e3])
def test_equals_sorting(shape: tuple[int, ...], scale: float) -> None:
    rng = np.random.default_rng(len(shape))
    scores = (rng.normal(size=shape) * scale).astype(np.float32)
    scores[:, 0] = np.round(scores[:, 0] / scale)  # equal scores
    assert count_margins(scores).tolist() == by_sorting(scores).tolist()


def test_limits_themselves_are_near() -> None:
    best = np.array([1.0, 0.5, 2.0**-10], np.float32)
    scores = np.stack([best, np.zeros(3, np.float32)])
    assert count_margins(scores).tolist() == by_sorting(scores).tolist()
    assert count_margins(scores)[-1] == 3  # the last limit is 1


def test_what_is_no_number_is_near() -> None:
    nan, inf = np.nan, np.inf
    pixels = [[nan, 9, 0], [9, nan, 0], [9, 0, nan], [inf, inf, 0], [-inf, -inf, -inf]]
    far = [[inf, 0, 0], [0, -inf, -inf], [9, 0, 0]]
    scores = np.array(pixels + far, np.float32).T
    assert count_margins(scores).tolist() == [len(pixels)] * len(LIMITS)
    assert count_margins(scores).tolist() == by_sorting(scores).tolist()


def test_one_class_has_no_margin() -> None:
    assert not count_margins(np.zeros((1, 4, 4), np.float32)).any()
