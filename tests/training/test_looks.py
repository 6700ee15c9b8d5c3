"""How patches look: strengths of 0 change nothing, and each changes what it says."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.training.augmentation import NONE, Augmentation
from pipeline.training.looks import vary

GREY = np.random.default_rng(0).random((1, 32, 32), np.float32)
COLOURS = np.random.default_rng(1).random((3, 32, 32), np.float32)


def varied(image: np.ndarray, seed: int = 1, **strengths: float) -> np.ndarray:
    rule = Augmentation.model_validate({**NONE.model_dump(), **strengths})
    found = vary(image, rule, np.random.default_rng(seed))
    assert found.dtype == np.float32
    assert found.shape == image.shape
    assert np.isfinite(found).all()
    return found


def test_nothing_asked_for_changes_nothing() -> None:
    assert np.array_equal(varied(GREY), GREY)
    assert np.array_equal(varied(COLOURS), COLOURS)


def test_each_strength_does_its_own() -> None:
    gain = varied(GREY, gain=1.0) / GREY
    assert np.ptp(gain) < 1e-5
    assert 0.5 <= gain.mean() <= 2
    assert np.ptp(varied(GREY, offset=0.3) - GREY) < 1e-6
    assert np.array_equal(varied(GREY, invert=1.0), 1 - GREY)
    gamma = varied(GREY, gamma=1.0)
    order = np.argsort(GREY.ravel())
    assert (np.diff(gamma.ravel()[order]) >= 0).all()
    assert 0 < np.std(varied(GREY, noise=0.2) - GREY) < 0.2
    assert any(varied(GREY, seed, blur_px=2.0).std() < GREY.std() for seed in range(4))


def test_colours_change_in_colour_images_alone() -> None:
    assert np.array_equal(varied(GREY, hue_deg=90, stain=0.5), GREY)
    turned = varied(COLOURS, hue_deg=90)
    np.testing.assert_allclose(turned.sum(0), COLOURS.sum(0), rtol=1e-4)  # grey stays
    assert np.abs(turned - COLOURS).max() > 0.01
    white = np.ones((3, 4, 4), np.float32)
    np.testing.assert_allclose(varied(white, stain=0.5), white, atol=1e-5)  # no stain, no change
    assert np.abs(varied(COLOURS, stain=0.5) - COLOURS).max() > 0.05


def test_volumes_are_blurred_too() -> None:
    volume = np.random.default_rng(0).random((1, 6, 16, 16), np.float32)
    assert any(varied(volume, seed, blur_px=2.0).std() < volume.std() for seed in range(4))


def test_a_zoom_the_wrong_way_round_is_named() -> None:
    with pytest.raises(ValueError, match="the smaller positive number comes first"):
        Augmentation(zoom=(2.0, 1.0))
