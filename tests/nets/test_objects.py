"""Heads that were drawn by hand become objects: touching discs are told apart, in any tiling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

pytest.importorskip("torch", reason="needs tilewright[nets]")

from pipeline.conformance import check_image
from pipeline.recipe import Recipe, parse_recipe
from pipeline.trial import Cut, Result
from tests.nets.models import echo

SHAPE = (70, 95)
#: Two discs that touch, and one that does not.
DISCS = (((34, 30), 17), ((30, 61), 15), ((58, 84), 8))


def truth() -> np.ndarray:
    """Labels of the discs; where they meet, a pixel belongs to the nearer middle."""
    places = np.indices(SHAPE)
    far = [np.hypot(places[0] - y, places[1] - x) - r for (y, x), r in DISCS]
    nearest = np.argmin(far, axis=0) + 1
    return np.where(np.min(far, axis=0) <= 0, nearest, 0)


def classes(labels: np.ndarray) -> np.ndarray:
    """Logits of background, cell, rim: no pixel is a rim."""
    found = np.full((3, *labels.shape), -9.0)
    found[0] = np.where(labels > 0, -4, 4)
    found[1] = -found[0]
    return found


def distances(labels: np.ndarray) -> np.ndarray:
    """Of every pixel to the edge of its object, the largest 1."""
    found = np.zeros((1, *labels.shape))
    for label in range(1, labels.max() + 1):
        inside = ndimage.distance_transform_edt(labels == label)
        found[0] += inside / inside.max()
    return found


def flows(labels: np.ndarray) -> np.ndarray:
    """Unit vectors (y, x) to the middle of the object."""
    found = np.zeros((2, *labels.shape))
    places = np.indices(labels.shape)
    for label, ((y, x), _) in enumerate(DISCS, 1):
        way = np.array([y, x]).reshape(2, 1, 1) - places
        way = way / np.maximum(np.hypot(*way), 1e-9)
        found += way * (labels == label)
    return found


def borders(labels: np.ndarray) -> np.ndarray:
    """Logits: what is within 2 px of another object or the background is border."""
    inner = np.zeros(labels.shape, bool)
    for label in range(1, labels.max() + 1):
        inner |= ndimage.binary_erosion(labels == label, iterations=2)
    kind = np.where(inner, 1, np.where(labels > 0, 2, 0))
    smooth = [ndimage.gaussian_filter(5.0 * (kind == k), 1) for k in range(3)]
    return np.stack(smooth)


def watershed(kinds: tuple[str, ...], **fields: Any) -> Recipe:
    network = {"method": "network", "model": echo(kinds), "block_px": 32}
    segment = {"method": "watershed", "landscape": "objectness", "foreground": network, **fields}
    source = {"channels": list(range(CHANNELS[kinds]))}
    return parse_recipe({"source": source, "segment": segment}, "recipe")


CHANNELS = {("classes", "distance"): 4, ("classes", "flow"): 5, ("border",): 3, ("classes",): 3}
DRAWN = {"classes": classes, "distance": distances, "flow": flows, "border": borders}


def drawn(kinds: tuple[str, ...], labels: np.ndarray) -> np.ndarray:
    """An image (C, 1, Y, X) of what a network would say of the labels."""
    return np.concatenate([DRAWN[kind](labels) for kind in kinds]).astype(np.float32)[:, None]


@pytest.mark.parametrize("kinds", [("classes", "distance"), ("classes", "flow"), ("border",)])
def test_touching_discs_are_split(kinds: tuple[str, ...], tmp_path: Path) -> None:
    labels = truth()
    # What is surely an object is a plateau, whose peaks are rounding.
    flat = {"markers": {"from": "h_minima", "h": 0.2}}
    fields: dict[str, Any] = flat if kinds == ("border",) else {"min_distance_px": 7}
    cuts = [Cut((33, 41), order=1), Cut(20, order=2, batch_tiles=3)]
    recipe = watershed(kinds, **fields)
    found = check_image(recipe, drawn(kinds, labels), cuts, tmp_path)
    assert isinstance(found, Result)
    ours = found.labels.reshape(SHAPE)
    assert ours.max() == len(DISCS)
    for label in range(1, len(DISCS) + 1):
        object_ = labels == label
        best = np.bincount(ours[object_]).argmax()
        assert best > 0
        overlap = ((ours == best) & object_).sum() / ((ours == best) | object_).sum()
        assert overlap > 0.95, (kinds, label, overlap)


def test_without_a_head_for_it_touching_discs_stay_one(tmp_path: Path) -> None:
    """So that the test above can fail: components of classes do not split."""
    labels = truth()
    network = {"method": "network", "model": echo(("classes",)), "block_px": 32, "output": "labels"}
    recipe = parse_recipe({"source": {"channels": [0, 1, 2]}, "segment": network}, "recipe")
    found = check_image(recipe, drawn(("classes",), labels), [Cut(20, order=1)], tmp_path)
    assert isinstance(found, Result)
    wanted, count = ndimage.label(labels > 0, np.ones((3, 3)))
    assert count == 2
    assert np.array_equal(found.labels.reshape(SHAPE), wanted)


def test_classes_of_an_echo_are_those_that_were_drawn(tmp_path: Path) -> None:
    outputs = np.random.default_rng(0).normal(size=(3, 1, 50, 61)).astype(np.float32)
    network = {"method": "network", "model": echo(("classes",)), "block_px": 16}
    segment = network | {"output": "probabilities"}
    recipe = parse_recipe({"source": {"channels": [0, 1, 2]}, "segment": segment}, "recipe")
    found = check_image(recipe, outputs, [Cut((17, 29), order=3)], tmp_path)
    assert isinstance(found, Result)
    assert np.array_equal(found.labels.reshape(50, 61), outputs[:, 0].argmax(axis=0) + 1)
    raised = np.exp(outputs[:, 0].astype(np.float64))
    assert found.probabilities is not None
    soft = found.probabilities.reshape(3, 50, 61)
    assert np.abs(soft - raised / raised.sum(axis=0)).max() < 1e-6
