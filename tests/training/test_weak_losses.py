"""Losses of weak labels against their formulas, written out in numpy, pixel by pixel."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.training.losses.activation import refine, seed_loss, seeds, tag_loss
from pipeline.training.losses.cross_entropy import cross_entropy
from pipeline.training.losses.pairwise import pairwise

N, K, C, Y, X = 2, 3, 2, 6, 5
REACH, COLOUR, ALIKE = 2, 0.4, 0.3
#: Nothing is known of the background, which is class 0.
TAGS = torch.tensor([[-1, 1, 0], [-1, 0, 1]], dtype=torch.int8)


def drawn() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(N, K, Y, X, generator=generator, dtype=torch.float64)
    return logits, torch.rand(N, C, Y, X, generator=generator, dtype=torch.float64)


def probability(logits: Tensor) -> np.ndarray:
    raised = np.exp(logits.numpy())
    found: np.ndarray = raised / raised.sum(1, keepdims=True)
    return found


def test_pairwise_is_its_formula() -> None:
    logits, colours = drawn()
    p, c = probability(logits), colours.numpy()
    values = []
    for n, y, x in itertools.product(range(N), range(Y), range(X)):
        for dy, dx in ((0, REACH), (REACH, -REACH), (REACH, 0), (REACH, REACH)):
            v, u = y + dy, x + dx
            if not (0 <= v < Y and 0 <= u < X):
                continue
            likeness = math.exp(-np.linalg.norm(c[n, :, y, x] - c[n, :, v, u]) / COLOUR)
            if likeness >= ALIKE:
                values.append(-math.log((p[n, :, y, x] * p[n, :, v, u]).sum()))
    every = N * (Y * (X - REACH) + (Y - REACH) * X + 2 * (Y - REACH) * (X - REACH))
    assert 0 < len(values) < every
    found = pairwise(logits, colours, REACH, COLOUR, ALIKE)
    assert found.item() == pytest.approx(np.mean(values), rel=1e-12)


def test_pairwise_wants_alike_neighbours_to_agree() -> None:
    """Left and right half differ in colour: the loss is 0 if each half is sure of one class."""
    colours = torch.zeros(1, 1, 4, 8)
    colours[..., 4:] = 1
    halves = torch.zeros(1, 2, 4, 8)
    halves[:, 0] = torch.where(colours[:, 0] > 0, 20.0, -20.0)
    assert pairwise(halves, colours).item() == pytest.approx(0, abs=1e-6)
    assert pairwise(halves.roll(1, 3), colours).item() > 1
    assert pairwise(0 * halves, colours).item() == pytest.approx(math.log(2))
    tiny = torch.zeros(1, 2, 2, 2)  # no pair lies 2 px apart
    assert pairwise(tiny, torch.zeros(1, 1, 2, 2)).item() == 0


def test_pairwise_in_volumes_looks_along_all_axes() -> None:
    colours = torch.zeros(1, 1, 5, 5, 5)
    for axis in range(3):
        logits = torch.zeros(1, 2, 5, 5, 5)
        logits[:, 0] = 30 * torch.linspace(-1, 1, 5).reshape(
            [5 if k == axis else 1 for k in range(3)]
        )
        assert pairwise(logits, colours).item() > 1


def test_tag_loss_is_its_formula() -> None:
    logits, _ = drawn()
    p, s = probability(logits), logits.numpy() - logits.numpy()[:, :1]
    values = []
    for n, k in itertools.product(range(N), (1, 2)):
        share = p[n, k].mean()
        score = (p[n, k] * s[n, k]).sum() / (1 + p[n, k].sum())
        there = int(TAGS[n, k])
        if there:
            score += 0.7 * (1 - share) ** 2 * math.log(0.01 + share)
        q = 1 / (1 + math.exp(-score))
        values.append(-math.log(q if there else 1 - q))
    found = tag_loss(logits, TAGS, 0, 0.7, 2.0)
    assert found.item() == pytest.approx(np.mean(values), rel=1e-12)


def test_refining_is_its_formula() -> None:
    logits, colours = drawn()
    p, c = probability(logits), colours.numpy()
    offsets = [
        (s * dy, s * dx)
        for s in (1, 2, 4)
        for dy, dx in itertools.product((-1, 0, 1), repeat=2)
        if dy or dx
    ]

    def at(array: np.ndarray, y: int, x: int) -> np.ndarray:
        found: np.ndarray = array[:, min(max(y, 0), Y - 1), min(max(x, 0), X - 1)]
        return found

    wanted = p
    for _ in range(2):
        following = np.zeros_like(wanted)
        for n, y, x in itertools.product(range(N), range(Y), range(X)):
            around = np.array([at(c[n], y + dy, x + dx) for dy, dx in offsets])
            unlike = np.abs(around - c[n, :, y, x]) / (1e-6 + 0.1 * around.std(0))
            weight = np.exp(-unlike.mean(1))
            weight /= weight.sum()
            following[n, :, y, x] = sum(
                w * at(wanted[n], y + dy, x + dx)
                for w, (dy, dx) in zip(weight, offsets, strict=True)
            )
        wanted = following
    found = refine(torch.from_numpy(p), colours, 2).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-9)


def test_seeds_are_sure_pixels_of_named_classes() -> None:
    logits, colours = drawn()
    p = probability(logits)
    found = seeds(logits, TAGS, colours, 0, 0.6, 0).numpy()
    for n in range(N):
        named = [0, *(k for k in (1, 2) if TAGS[n, k] == 1)]
        for y, x in itertools.product(range(Y), range(X)):
            best = max(named, key=lambda k: p[n, k, y, x])
            sure = p[n, best, y, x] > 0.6 * p[n, best].max()
            assert found[n, y, x] == (best if sure else -1)
        assert set(np.unique(found[n])) <= {-1, *named}
    untold = torch.full_like(TAGS, -1)
    assert (seeds(logits, untold, colours) == -1).all()


def test_seed_loss_is_cross_entropy_of_seeds_class_by_class() -> None:
    logits, colours = drawn()
    found = seeds(logits, TAGS, colours, 0, 0.6, 0)
    values = []
    for n, k in itertools.product(range(N), range(K)):
        own = (found[n] == k)[None].double()
        if own.any():
            one = logits[n : n + 1]
            values.append(cross_entropy(one, torch.full((1, Y, X), k), own).item())
    assert len(values) == 4
    assert seed_loss(logits, TAGS, colours, 0, 0.6, 0).item() == pytest.approx(np.mean(values))


def test_seeds_of_one_class_alone_teach_nothing() -> None:
    """Else background, which is easy, would take all: here no pixel of the first patch is sure to
    be an object."""
    logits, colours = drawn()
    logits[0, 0] += 20
    found = seeds(logits, TAGS, colours, 0, 0.6, 0)
    assert set(found[0].unique().tolist()) <= {-1, 0}
    alone = seed_loss(logits[1:], TAGS[1:], colours[1:], 0, 0.6, 0)
    assert seed_loss(logits, TAGS, colours, 0, 0.6, 0).item() == pytest.approx(alone.item())
    assert alone > 0


def test_the_background_may_be_any_class() -> None:
    logits, colours = drawn()
    turned, tags = logits.roll(-1, 1), TAGS.roll(-1, 1)
    assert tags[0].tolist() == [1, 0, -1]
    wanted, found = (
        [tag_loss(x, t, b).item(), seed_loss(x, t, colours, b).item()]
        for x, t, b in ((logits, TAGS, 0), (turned, tags, 2))
    )
    assert found == pytest.approx(wanted, rel=1e-12)


def test_volumes_are_refined_along_all_axes() -> None:
    colours = torch.zeros(1, 1, 5, 5, 5, dtype=torch.float64)
    p = torch.zeros(1, 2, 5, 5, 5, dtype=torch.float64)
    p[:, 1] = 1
    p[0, :, 2, 2, 2] = torch.tensor([1.0, 0.0])
    found = refine(p, colours, 1)
    assert found.sum().item() == pytest.approx(125)
    for neighbour in ((1, 2, 2), (2, 1, 2), (2, 2, 1)):
        assert found[0, 0][neighbour] > 0


def test_nothing_known_is_no_loss_and_no_nan() -> None:
    logits, colours = drawn()
    logits.requires_grad_()
    untold = torch.full_like(TAGS, -1)
    for found in (tag_loss(logits, untold), seed_loss(logits, untold, colours)):
        assert found.item() == 0
    tag_loss(logits, untold).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))
