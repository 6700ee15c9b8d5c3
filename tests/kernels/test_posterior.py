"""Probabilities of scores, and the mean-field prior: against NumPy, and what theory says of it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow
from scipy.special import softmax

from pipeline.kernels.posterior import mean_field, normalise

SHAPES = [(9, 13), (1, 7), (6, 1), (3, 5, 6), (1, 4, 5), (1, 1)]


def drawn(shape: tuple[int, ...], count: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and a mask with some gaps."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, 2, (count, *shape)), rng.random(shape) > 0.15


def near(q: np.ndarray) -> np.ndarray:
    """Sum of q over the face neighbours of each pixel."""
    total = np.zeros_like(q)
    for axis in range(1, q.ndim):
        first = [slice(None)] * q.ndim
        last = list(first)
        first[axis], last[axis] = slice(None, -1), slice(1, None)
        total[tuple(first)] += q[tuple(last)]
        total[tuple(last)] += q[tuple(first)]
    return total


def reference(
    scores: np.ndarray, valid: np.ndarray, start: tuple[int, ...], weight: float, iterations: int
) -> np.ndarray:
    """The definition, all pixels of one parity at once."""
    parity = sum(np.indices(valid.shape)) + sum(start)
    q = softmax(scores, axis=0) * valid
    for turn in range(2 * iterations):
        chosen = valid & (parity % 2 == turn % 2)
        q = np.where(chosen, softmax(scores + weight * near(q), axis=0), q)
    return q


def free_energy(q: np.ndarray, scores: np.ndarray, weight: float) -> float:
    logarithm = np.log(np.where(q > 0, q, 1.0))
    return float((q * (logarithm - scores)).sum() - weight / 2 * (q * near(q)).sum())


@pytest.mark.parametrize("shape", SHAPES)
def test_normalise_is_softmax_and_its_first_largest(shape: tuple[int, ...]) -> None:
    scores, valid = drawn(shape, 4)
    scores[1] = scores[3]  # equal: the first counts
    found = scores.copy()
    classes = normalise(found, valid)
    assert np.abs(found - softmax(scores, axis=0) * valid).max() < 1e-15
    assert np.array_equal(classes, (scores.argmax(axis=0) + 1) * valid)
    everywhere = scores.copy()
    assert np.array_equal(normalise(everywhere, None), scores.argmax(axis=0) + 1)


def test_scores_far_apart_and_scores_that_are_none() -> None:
    endless, none = -np.inf, np.nan
    scores = np.array([[-1e308, 800, endless, none, none], [1e308, 801, endless, 3, none]])
    found = scores.copy()
    assert normalise(found, None).tolist() == [2, 2, 0, 2, 0]
    assert found[:, 0].tolist() == [0, 1]
    assert np.allclose(found[:, 1], [1 / (1 + np.e), np.e / (1 + np.e)], atol=1e-15)
    assert found[:, 2:].tolist() == [[0, 0, 0], [0, 1, 0]]
    again, classes = mean_field(scores[:, None], None, (0, 0), 1.0, 2)
    assert classes.tolist() == [[2, 2, 0, 2, 0]]
    assert again[:, 0, 2:].tolist() == [[0, 0, 0], [0, 1, 0]]


def test_no_class_and_no_pixel() -> None:
    assert normalise(np.empty((0, 4, 5)), None).tolist() == np.zeros((4, 5)).tolist()
    assert mean_field(np.empty((0, 4, 5)), None, (0, 0), 1.0, 1)[1].shape == (4, 5)
    assert normalise(np.empty((3, 0, 5)), None).shape == (0, 5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weight", [0.3, 2.0, 40.0])
@pytest.mark.parametrize("first", [0, 5])
def test_mean_field_is_its_definition(shape: tuple[int, ...], weight: float, first: int) -> None:
    scores, valid = drawn(shape)
    start = (first, *[2] * (len(shape) - 1))
    for iterations in (1, 4):
        found, classes = mean_field(scores, valid, start, weight, iterations)
        expected = reference(scores, valid, start, weight, iterations)
        assert np.abs(found - expected).max() < 1e-12
        own = np.take_along_axis(found, np.maximum(classes, 1)[None].astype(int) - 1, axis=0)[0]
        assert np.array_equal(own, found.max(axis=0))
        assert np.array_equal(classes > 0, valid)


def test_the_parity_of_absolute_coordinates_decides() -> None:
    scores, valid = drawn((12, 11))
    even = mean_field(scores, valid, (0, 0), 2.0, 1)[0]
    assert np.array_equal(mean_field(scores, valid, (3, 5), 2.0, 1)[0], even)
    assert np.abs(mean_field(scores, valid, (3, 4), 2.0, 1)[0] - even).max() > 0.01


@pytest.mark.parametrize("weight", [0.5, 1.5, 6.0])
@pytest.mark.parametrize("shape", [(17, 19), (5, 8, 9)])
def test_the_free_energy_never_rises(shape: tuple[int, ...], weight: float) -> None:
    scores, valid = drawn(shape)
    begin = scores.copy()
    normalise(begin, valid)
    energies = [free_energy(begin, scores, weight)]
    for n in range(1, 12):
        energies.append(
            free_energy(mean_field(scores, valid, (0, 1, 0), weight, n)[0], scores, weight)
        )
    steps = np.diff(energies)
    assert steps[0] < -1
    assert (steps <= 1e-9).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_without_weight_nothing_changes(shape: tuple[int, ...]) -> None:
    scores, valid = drawn(shape)
    plain = scores.copy()
    expected = normalise(plain, valid)
    found, classes = mean_field(scores, valid, (1, 2, 3), 0.0, 3)
    assert found.tobytes() == plain.tobytes()
    assert np.array_equal(classes, expected)


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_a_window_that_is_grown_by_its_reach_gives_the_same_bits(iterations: int) -> None:
    scores, valid = drawn((23, 26))
    whole, classes = mean_field(scores, valid, (0, 0), 1.7, iterations)
    reach = 2 * iterations
    missed = 0
    for y, x in itertools.product(range(8, 12), range(8, 12)):
        core = (slice(y, y + 3), slice(x, x + 4))
        for grown, exact in ((reach, True), (reach - 1, False)):
            window = (slice(y - grown, y + 3 + grown), slice(x - grown, x + 4 + grown))
            inner = (slice(grown, grown + 3), slice(grown, grown + 4))
            part, numbers = mean_field(
                np.ascontiguousarray(scores[(slice(None), *window)]),
                valid[window],
                (y - grown, x - grown),
                1.7,
                iterations,
            )
            same = np.array_equal(part[(slice(None), *inner)], whole[(slice(None), *core)])
            if exact:
                assert same
                assert np.array_equal(numbers[inner], classes[core])
            missed += not same
    assert missed > 0  # the reach is no larger than it must be


def disc_under_noise() -> tuple[np.ndarray, np.ndarray]:
    """Two grey values under noise of half their distance, as the truth and scores."""
    y, x = np.indices((96, 96))
    truth = (y - 48) ** 2 + (x - 40) ** 2 < 900
    noisy = truth + np.random.default_rng(3).normal(0, 0.5, truth.shape)
    return truth, np.stack([-2.0 * noisy**2, -2.0 * (noisy - 1) ** 2])


def test_speckle_is_removed() -> None:
    truth, scores = disc_under_noise()
    wrong = [int(((normalise(scores.copy(), None) == 2) != truth).sum())]
    for weight in (0.5, 1.0, 2.0):
        classes = mean_field(scores, None, (0, 0), weight, 10)[1]
        wrong.append(int(((classes == 2) != truth).sum()))
    assert wrong == [1468, 430, 62, 39]


def energy(bright: np.ndarray, scores: np.ndarray, weight: float) -> float:
    """Of a labelling under the Potts prior: the smaller, the more probable."""
    apart = sum(np.count_nonzero(np.diff(bright, axis=axis)) for axis in (0, 1))
    return float(weight * apart - np.where(bright, scores[1], scores[0]).sum())


def graph_cut(scores: np.ndarray, weight: float) -> np.ndarray:
    """The most probable labelling of two classes, by a minimal cut in 1/1000 of a score."""
    shape = scores.shape[1:]
    number = np.arange(scores[0].size).reshape(shape)
    source, sink = number.size, number.size + 1
    one = (np.maximum(scores[1] - scores[0], 0) * 1000).round().astype(np.int32).ravel()
    other = (np.maximum(scores[0] - scores[1], 0) * 1000).round().astype(np.int32).ravel()
    heads = [np.full(number.size, source), number.ravel()]
    tails = [number.ravel(), np.full(number.size, sink)]
    capacity = [one, other]
    for a, b in ((number[1:], number[:-1]), (number[:, 1:], number[:, :-1])):
        heads += [a.ravel(), b.ravel()]
        tails += [b.ravel(), a.ravel()]
        capacity += [np.full(a.size, round(weight * 1000), np.int32)] * 2
    graph = csr_array(
        (np.concatenate(capacity), (np.concatenate(heads), np.concatenate(tails))),
        shape=(sink + 1, sink + 1),
    )
    rest = graph - maximum_flow(graph, source, sink).flow
    rest.data = np.where(rest.data > 0, rest.data, 0)
    rest.eliminate_zeros()
    reached = np.zeros(sink + 1, bool)
    reached[breadth_first_order(rest, source, return_predecessors=False)] = True
    return reached[:-2].reshape(shape)


def test_the_classes_are_nearly_as_probable_as_those_of_a_graph_cut() -> None:
    truth, scores = disc_under_noise()
    best = graph_cut(scores, 1.0)
    found = mean_field(scores, None, (0, 0), 1.0, 20)[1] == 2
    plain = normalise(scores.copy(), None) == 2
    lowest, ours, without = (energy(labels, scores, 1.0) for labels in (best, found, plain))
    assert lowest <= ours < lowest + 0.002 * (without - lowest)
    wrong = [int((labels != truth).sum()) for labels in (best, found, plain)]
    assert wrong == [51, 62, 1468]
