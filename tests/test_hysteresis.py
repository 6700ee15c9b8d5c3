"""Hysteresis is that of scikit-image, and what it drops is background."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from skimage.filters import apply_hysteresis_threshold, threshold_multiotsu

from pipeline.errors import RecipeError
from pipeline.recipe import parse_recipe
from pipeline.trial import Cut, run_tiled


def rough(shape: tuple[int, ...]) -> np.ndarray:
    smooth = ndimage.gaussian_filter(np.random.default_rng(6).random(shape), 1.5)
    return ((smooth - smooth.min()) / np.ptp(smooth) * 250).astype(np.uint8)


@pytest.mark.parametrize("shape", [(60, 64), (9, 30, 33)])
@pytest.mark.parametrize("side", [11, 100])
def test_equals_scikit_image(shape: tuple[int, ...], side: int, tmp_path: Path) -> None:
    image = rough(shape)
    faces = 4 if image.ndim == 2 else 6
    recipe = parse_recipe(
        {
            "source": {"dims": f"{image.ndim}d"},
            "segment": {"method": "hysteresis", "connectivity": faces},
        },
        "recipe",
    )
    result = run_tiled(recipe, image, tmp_path, Cut(min(side, max(shape))))
    weak, strong = threshold_multiotsu(image, 3)
    assert (result.certificate["weak"], result.certificate["strong"]) == (weak, strong)
    expected = apply_hysteresis_threshold(image, weak, strong)
    assert 0 < expected.sum() < (image > weak).sum()
    assert np.array_equal(result.labels.reshape(shape), ndimage.label(expected)[0])


def test_dark_objects_mirror_bright_ones(tmp_path: Path) -> None:
    image = rough((40, 40))
    bright = {"method": "hysteresis", "weak": 120, "strong": 180}
    dark = {"method": "hysteresis", "weak": 134.5, "strong": 74.5, "objects": "dark"}
    found = [
        run_tiled(parse_recipe({"segment": segment}, "recipe"), pixels, tmp_path, Cut(16))
        for segment, pixels in ((bright, image), (dark, (255 - image).astype(np.uint8)))
    ]
    assert found[0].labels.max() > 0
    assert np.array_equal(found[0].labels, found[1].labels)


@pytest.mark.parametrize("side", [4, 5, 12])
def test_what_is_dropped_is_filled_like_background(side: int, tmp_path: Path) -> None:
    image = np.zeros((12, 12), np.uint8)
    image[1:11, 1:11] = 200
    image[3:9, 3:9] = 0
    image[5:7, 5:7] = 100  # faint, and alone in the hole
    segment = {"method": "hysteresis", "weak": 50, "strong": 150}
    for fill in (False, True):
        content = {"segment": segment, "postprocess": {"fill_holes": fill}}
        result = run_tiled(parse_recipe(content, "recipe"), image, tmp_path, Cut(side))
        ring = np.zeros((12, 12), int)
        ring[1:11, 1:11] = 1
        if not fill:
            ring[3:9, 3:9] = 0
        assert np.array_equal(result.labels[0, 0], ring)
        assert len(result.table) == 1


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        ({"weak": 3}, "give both `weak` and `strong`"),
        ({"weak": 9, "strong": 3}, "weak 9 is stricter than strong 3 for bright objects; swap"),
        ({"weak": 3, "strong": 9, "objects": "dark"}, "stricter than strong 9 for dark"),
    ],
)
def test_values_in_the_wrong_order_are_refused(segment: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe({"segment": {"method": "hysteresis", **segment}}, "recipe")
