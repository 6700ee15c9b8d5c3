"""Boundary F1, beside scikit-image's borders, scipy's distances and MONAI's surface Dice."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage
from score_cases import cases
from skimage.segmentation import find_boundaries
from whole import count, scores, settings_of

from pipeline.scores.boundary import borders, count_borders

CASES = cases()


def oracle(truth: np.ndarray, labels: np.ndarray, tolerance_px: int) -> list[int]:
    wanted, found = (
        find_boundaries(image, mode="inner", connectivity=1) for image in (truth, labels)
    )

    def near(mask: np.ndarray) -> np.ndarray:
        if not mask.any():
            return mask
        squared = np.round(ndimage.distance_transform_edt(~mask) ** 2)
        return squared <= tolerance_px**2

    parts = (found, found & near(wanted), wanted, wanted & near(found))
    return [int(part.sum()) for part in parts]


@pytest.mark.parametrize("tolerance_px", [0, 1, 2, 5])
@pytest.mark.parametrize("case", CASES)
def test_borders_are_counted_as_by_definition(case: str, tolerance_px: int) -> None:
    truth, labels = CASES[case]
    found = count(truth, labels, tolerance_px=tolerance_px).borders
    assert found[0].tolist() == oracle(truth, labels, tolerance_px)


def test_borders_of_volumes() -> None:
    random = np.random.default_rng(2)
    truth = ndimage.zoom(random.integers(0, 5, (3, 4, 5)), 4, order=0)
    labels = np.roll(truth, (1, 2, 0), (0, 1, 2))
    assert count(truth, labels).borders[0].tolist() == oracle(truth, labels, 2)


@pytest.mark.filterwarnings("ignore::FutureWarning:monai")
@pytest.mark.parametrize("tolerance_px", [1, 2, 3])
def test_counts_are_those_of_surface_dice(tolerance_px: int) -> None:
    """MONAI's takes the same borders (of one object) and counts both sides together."""
    torch = pytest.importorskip("torch")
    from monai.metrics.surface_dice import compute_surface_dice

    truth, labels = np.zeros((2, 40, 50), np.uint8)
    truth[8:25, 10:30] = 1
    labels[10:28, 9:31] = 1
    labels[32:36, 20:30] = 1
    one, other = (torch.tensor(image)[None, None] for image in (labels, truth))
    said = compute_surface_dice(one, other, [float(tolerance_px)], include_background=True)
    found, found_near, wanted, wanted_near = count(truth, labels, None, tolerance_px).borders[0]
    assert (found_near + wanted_near) / (found + wanted) == pytest.approx(float(said[0, 0]))


def test_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    found = scores(*CASES["shifted"], settings_of(50, tolerance_px=1))
    p, r = found["boundary_precision"], found["boundary_recall"]
    assert found["boundary_f1"] == pytest.approx(2 * p * r / (p + r))
    assert 0 < found["boundary_f1"] < 1


def test_borders_that_are_missing() -> None:
    nothing = scores(*CASES["nothing at all"])
    assert math.isnan(nothing["boundary_f1"])
    alone = scores(*CASES["nothing true"])
    assert (alone["boundary_f1"], alone["boundary_precision"]) == (0, 0)
    assert math.isnan(alone["boundary_recall"])


def test_the_edge_of_what_is_annotated_is_no_border() -> None:
    truth = np.zeros((12, 12), np.uint8)
    truth[:, 3:] = 1
    truth[:, 8:] = 2
    labels = np.where(np.arange(12) >= 9, 2, 1)[None].repeat(12, 0)
    judged = truth != 0
    assert borders(truth == 1, judged).sum() == 12  # beside class 2 alone
    whole = (slice(None),) * 2
    found = count_borders(truth == 1, labels == 1, whole, 1, judged)
    assert found.tolist() == [12, 12, 12, 12]
