"""Losses against their formulas, written out in numpy, and against torch and MONAI."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.training.losses.cross_entropy import cross_entropy
from pipeline.training.losses.dice import dice
from pipeline.training.losses.focal import focal
from pipeline.training.losses.regression import regression
from pipeline.training.losses.terms import CrossEntropyTerm, DiceTerm, FocalTerm

N, K, Y, X = 2, 3, 5, 4
WEIGHTS = (1.0, 0.5, 3.0)


def drawn() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(N, K, Y, X, generator=generator, dtype=torch.float64)
    target = torch.randint(K, (N, Y, X), generator=generator)
    known = (torch.rand(N, Y, X, generator=generator) > 0.3).double()
    return logits, target, known


def probability(logits: Tensor) -> np.ndarray:
    raised = np.exp(logits.numpy())
    found: np.ndarray = raised / raised.sum(1, keepdims=True)
    return found


def of_target(values: np.ndarray, target: Tensor) -> np.ndarray:
    return np.take_along_axis(values, target.numpy()[:, None], 1)[:, 0]


def test_cross_entropy_is_its_formula() -> None:
    logits, target, known = drawn()
    surprise = -np.log(of_target(probability(logits), target))
    border = np.arange(N * Y * X).reshape(N, Y, X) / 10
    weights = (np.array(WEIGHTS)[target.numpy()] + border) * known.numpy()
    wanted = (weights * surprise).sum() / weights.sum()
    found = cross_entropy(logits, target, known, WEIGHTS, torch.from_numpy(border))
    assert found.item() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_is_that_of_torch(weights: tuple[float, ...] | None) -> None:
    logits, target, _ = drawn()
    wanted = functional.cross_entropy(
        logits, target, None if weights is None else torch.tensor(weights, dtype=torch.float64)
    )
    found = cross_entropy(logits, target, torch.ones(target.shape).double(), weights)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-12)


@pytest.mark.parametrize("background", [False, True])
def test_dice_is_its_formula(background: bool) -> None:
    logits, target, known = drawn()
    p, m = probability(logits), known.numpy()
    parts = []
    for k in range(0 if background else 1, K):
        y = (target.numpy() == k) * m
        both, each = (p[:, k] * y).sum(), (p[:, k] * m).sum() + y.sum()
        parts.append((2 * both + 1) / (each + 1))
    found = dice(logits, target, known, background, 1.0)
    assert found.item() == pytest.approx(1 - np.mean(parts), rel=1e-12)


@pytest.mark.parametrize("background", [False, True])
def test_dice_is_that_of_monai(background: bool) -> None:
    losses = pytest.importorskip("monai.losses")
    logits, target, _ = drawn()
    of_monai = losses.DiceLoss(
        include_background=background,
        to_onehot_y=True,
        softmax=True,
        smooth_nr=1.0,
        smooth_dr=1.0,
        batch=True,
    )
    found = dice(logits, target, torch.ones(target.shape).double(), background, 1.0)
    assert found.item() == pytest.approx(of_monai(logits, target[:, None]).item(), rel=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_is_its_formula(gamma: float) -> None:
    logits, target, known = drawn()
    p = of_target(probability(logits), target)
    values = -np.array(WEIGHTS)[target.numpy()] * (1 - p) ** gamma * np.log(p)
    wanted = (values * known.numpy()).sum() / known.numpy().sum()
    assert focal(logits, target, known, gamma, WEIGHTS).item() == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_focal_is_that_of_monai(weights: tuple[float, ...] | None) -> None:
    losses = pytest.importorskip("monai.losses")
    logits, target, _ = drawn()
    of_monai = losses.FocalLoss(
        to_onehot_y=True, use_softmax=True, gamma=2.0, weight=weights, reduction="sum"
    )
    wanted = of_monai(logits, target[:, None]).item() / N  # a sum of means over pixels
    found = focal(logits, target, torch.ones(target.shape).double(), 2.0, weights)
    assert found.item() == pytest.approx(wanted, rel=1e-6)


def test_focal_without_gamma_is_cross_entropy() -> None:
    logits, target, known = drawn()
    wanted = cross_entropy(logits, target, known)
    assert focal(logits, target, known, 0.0).item() == pytest.approx(wanted.item(), rel=1e-12)


def test_regression_is_its_formula() -> None:
    generator = torch.Generator().manual_seed(2)
    a, b = (torch.randn(N, 2, Y, X, generator=generator).double() for _ in range(2))
    known = drawn()[2]
    d = np.abs((a - b).numpy())
    of_pixels = {"l1": d, "l2": d**2, "smooth_l1": np.where(d < 1, d**2 / 2, d - 0.5)}
    for kind, values in of_pixels.items():
        wanted = (values.mean(1) * known.numpy()).sum() / known.numpy().sum()
        assert regression(a, b, known, kind).item() == pytest.approx(wanted, rel=1e-12)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "term",
    [
        CrossEntropyTerm(loss="cross_entropy", class_weights=WEIGHTS),
        DiceTerm(loss="dice"),
        FocalTerm(loss="focal"),
    ],
)
def test_what_is_not_known_changes_nothing(
    term: CrossEntropyTerm | DiceTerm | FocalTerm,
) -> None:
    logits, target, known = drawn()
    before = term.of(logits, target, known, None)
    other = torch.where(known > 0, target, (target + 1) % K)
    assert torch.equal(term.of(logits, other, known, None), before)
    spoiled = torch.where(known[:, None] > 0, logits, torch.full_like(logits, 3.0))
    assert torch.allclose(term.of(spoiled, target, known, None), before, rtol=1e-12, atol=0)


def test_nothing_known_is_no_loss_and_no_nan() -> None:
    logits, target, known = drawn()
    logits.requires_grad_()
    for found in (
        cross_entropy(logits, target, 0 * known),
        focal(logits, target, 0 * known),
    ):
        assert found.item() == 0
        found.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))
