"""The split: by image, the same when others come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.split import split

NAMES = [f"image {k}" for k in range(200)]


def test_about_the_fraction_is_for_validation() -> None:
    train, validation = split(NAMES, 0.25, 0)
    assert sorted(train + validation) == sorted(NAMES)
    assert 35 <= len(validation) <= 65
    assert split(NAMES, 0.25, 1)[1] != validation


def test_images_stay_where_they_are_when_others_come() -> None:
    _, few = split(NAMES[:100], 0.25, 0)
    _, many = split(NAMES, 0.25, 0)
    assert set(few) == set(many) & set(NAMES[:100])


@given(count=st.integers(2, 6), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 50))
def test_neither_side_is_empty(count: int, fraction: float, seed: int) -> None:
    train, validation = split(NAMES[:count], fraction, seed)
    assert train
    assert validation
