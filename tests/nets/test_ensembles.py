"""Several models, mirrored and turned frames: their mean is what one gets by hand."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs tilewright[nets]")

from torch import Tensor, nn  # noqa: E402

from pipeline.conformance import check_image  # noqa: E402
from pipeline.trial import Cut, Result  # noqa: E402
from tests.nets.models import CLASSES, FLOW, scripted_model, tiny_model  # noqa: E402
from tests.nets.whole import engine_outputs, one_pass, picture, recipe_of  # noqa: E402

SHAPE = (70, 93)
CUT = Cut((37, 60), order=2)


def symmetries(augment: list[str]) -> list[tuple[int, bool]]:
    """Quarter turns, and whether the frame is mirrored before, by numpy's conventions."""
    if augment == ["rotations"]:
        return [(k, False) for k in range(4)]
    if augment == ["flips"]:
        return [(0, False), (2, False), (0, True), (2, True)]
    return list(itertools.product(range(4), [False, True]))


def by_hand(module: nn.Module, batch: Tensor, augment: list[str]) -> Tensor:
    """Mean probabilities over all symmetries."""
    total = torch.zeros(())
    ways = symmetries(augment) if augment else [(0, False)]
    for turns, mirrored in ways:
        seen = torch.flip(batch, (-1,)) if mirrored else batch
        out = module(torch.rot90(seen, turns, (-2, -1)))
        back = torch.rot90(out, -turns, (-2, -1))
        total = total + torch.softmax(torch.flip(back, (-1,)) if mirrored else back, dim=1)
    return total / len(ways)


@pytest.mark.parametrize(
    ("norm", "augment"),
    [
        ("batch", ["flips"]),
        ("batch", ["rotations"]),
        ("batch", ["flips", "rotations"]),
        ("instance", ["rotations"]),
    ],
)
def test_augmentation_is_what_one_does_by_hand(
    norm: str, augment: list[str], tmp_path: Path
) -> None:
    model, image = tiny_model(arguments={"depth": 1, "norm": norm}), picture(SHAPE)
    recipe = recipe_of(model, block_px=48, augment=augment, output="probabilities")
    found = check_image(recipe, image, [CUT], tmp_path)
    assert isinstance(found, Result)
    wanted = one_pass(model, image, lambda m, x: by_hand(m, x, augment))
    plain = one_pass(model, image, lambda m, x: by_hand(m, x, []))
    assert np.abs(wanted - plain).max() > 0.01
    assert found.probabilities is not None
    assert np.abs(found.probabilities[0, :, 0] - wanted).max() < 1e-4


def test_two_models_are_averaged(tmp_path: Path) -> None:
    models = [tiny_model(arguments={"depth": 1}, seed=1), tiny_model(seed=2)]  # strides 2 and 4
    image = picture(SHAPE)
    recipe = recipe_of(models, block_px=48, output="probabilities")
    found = check_image(recipe, image, [CUT], tmp_path)
    assert isinstance(found, Result)
    each = [one_pass(m, image, lambda net, x: by_hand(net, x, [])) for m in models]
    assert np.abs(each[0] - each[1]).max() > 0.1
    assert found.probabilities is not None
    assert np.abs(found.probabilities[0, :, 0] - (each[0] + each[1]) / 2).max() < 1e-4


class Slope(nn.Module):
    """Scores of three classes, then the slope of the image: a vector that turns with it."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Conv2d(1, 2, 3, padding=1, bias=False)
        self.score = nn.Conv2d(1, 3, 1)
        self.slope.weight.data.zero_()
        for axis, places in enumerate([((0, 1), (2, 1)), ((1, 0), (1, 2))]):
            for sign, place in zip((-0.5, 0.5), places, strict=True):
                self.slope.weight.data[(axis, 0, *place)] = sign

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.score(x), self.slope(x)], dim=1)


@pytest.mark.parametrize("augment", [["flips"], ["rotations"], ["flips", "rotations"]])
def test_vectors_turn_with_the_frame(augment: list[str], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, image = slopes(), picture(SHAPE)
    fields: dict[str, Any] = {"block_px": 32}
    _, plain = engine_outputs(recipe_of(model, **fields), image, CUT, tmp_path)
    _, found = engine_outputs(recipe_of(model, **fields, augment=augment), image, CUT, tmp_path)
    pixels = image.astype(np.float64)
    assert np.abs(plain[3:]).max() > 0.05
    assert np.abs(found[3:] - plain[3:]).max() < 1e-6
    scale = np.percentile(pixels, 99.8) - np.percentile(pixels, 1)
    slope = np.gradient(pixels, axis=(0, 1))
    inside = (slice(1, -1), slice(1, -1))
    for axis in range(2):
        assert np.abs(found[3 + axis][inside] - slope[axis][inside] / scale).max() < 1e-5


def slopes() -> str:
    if not _slopes:
        _slopes.append(scripted_model(Slope(), "slopes", [CLASSES, FLOW]))
    return _slopes[0]


_slopes: list[str] = []
