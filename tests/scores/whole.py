"""Scores of arrays, cut in any way, for tests."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import tifffile

from pipeline.box import Box, grid
from pipeline.scores.boundary import count_borders, halo_px
from pipeline.scores.contingency import Overlaps
from pipeline.scores.settings import Settings
from pipeline.scores.stream import Counted, finish


def settings_of(*percent: int, tolerance_px: int = 2) -> Settings:
    """Settings for thresholds in per cent."""
    return Settings(tuple(Fraction(p, 100) for p in percent), tolerance_px)


def count(
    truth: np.ndarray,
    labels: np.ndarray,
    side: Sequence[int] | None = None,
    tolerance_px: int = 2,
    backwards: bool = False,
) -> Counted:
    """Count a frame in tiles of `side`, by default in one."""
    whole = Box.whole(truth.shape)
    boxes = [box for _, box in grid(truth.shape, side or truth.shape)]
    parts = []
    for core in reversed(boxes) if backwards else boxes:
        window = core.grow(halo_px(tolerance_px), whole)
        pair = truth[window.slices], labels[window.slices]
        borders = count_borders(*pair, core.within(window), tolerance_px)[None]
        parts.append(Counted(Overlaps.of_tile(0, truth[core.slices], labels[core.slices]), borders))
    return Counted.sum(parts)


def scores(
    truth: np.ndarray, labels: np.ndarray, settings: Settings | None = None
) -> dict[str, float]:
    """Every score of one frame."""
    settings = settings or Settings()
    counted = count(truth, labels, tolerance_px=settings.tolerance_px)
    return ratios(finish(counted, settings).sums, settings)


def ratios(sums: dict[str, float], settings: Settings) -> dict[str, float]:
    columns = {name: np.array([value]) for name, value in sums.items()}
    return {measure.name: float(measure.of(columns)[0]) for measure in settings.measures()}


def save(folder: Path, **images: np.ndarray) -> None:
    """Write label images as TIFF; "__" in a name is a folder."""
    for name, image in images.items():
        path = folder / f"{name.replace('__', '/')}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, image, photometric="minisblack")


def squares(height: int = 40, width: int = 60, side: int = 8) -> np.ndarray:
    """Numbered squares with two px between them."""
    image = np.zeros((height, width), np.uint16)
    places = itertools.product(range(1, height - side, side + 2), range(1, width - side, side + 2))
    for number, (y, x) in enumerate(places, start=1):
        image[y : y + side, x : x + side] = number
    return image
