"""Patches of turned, mirrored and scaled frames, against numpy's own turns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.augmentation import NONE, Augmentation
from pipeline.training.geometry import draw_places, sampler, straight
from pipeline.training.targets import flows, middles

FRAME = np.arange(40 * 40, dtype=np.float32).reshape(40, 40)


def symmetries(array: np.ndarray) -> list[np.ndarray]:
    turned = [np.rot90(array, k) for k in range(4)]
    return [*turned, *(one[::-1] for one in turned)]


@given(seed=st.integers(0, 10_000), side=st.sampled_from([7, 8]))
def test_flips_and_turns_copy_whole_pixels(seed: int, side: int) -> None:
    rule = NONE.model_copy(update={"flips": True, "turns": True})
    random = np.random.default_rng(seed)
    places = draw_places([19.7, 20.2], (side, side), 0, rule, random)
    cut = sampler(places, FRAME.shape)
    labels, pixels = cut.nearest(FRAME), cut.linear(FRAME[None])[0]
    assert np.array_equal(labels, pixels)
    y, x = (int(axis.min()) for axis in places.points)
    crop = FRAME[y : y + side, x : x + side]
    assert any(np.array_equal(labels, one) for one in symmetries(crop))


def test_nothing_asked_for_is_a_plain_crop() -> None:
    places = draw_places([10, 12], (5, 6), 1, NONE, np.random.default_rng(0))
    start = [int(axis.min()) for axis in places.points]
    found = sampler(places, FRAME.shape).nearest(FRAME)
    assert found.shape == (7, 8)
    assert np.array_equal(found, FRAME[start[0] : start[0] + 7, start[1] : start[1] + 8])


def test_outside_goes_on_mirrored() -> None:
    found = sampler(straight([-3, 36], (6, 8)), FRAME.shape)
    wanted = np.pad(FRAME, 8, mode="reflect")[5:11, 44:52]
    assert np.array_equal(found.nearest(FRAME), wanted)
    assert np.array_equal(found.linear(FRAME[None])[0], wanted)
    assert found.inside.tolist() == [[k >= 3 and c < 4 for c in range(8)] for k in range(6)]


@pytest.mark.parametrize("zoom", [0.5, 2.0])
def test_zoom_scales_objects(zoom: float) -> None:
    y, x = np.indices((80, 80))
    disc = ((y - 40) ** 2 + (x - 40) ** 2 < 100).astype(np.int32)
    rule = Augmentation(zoom=(zoom, zoom), flips=False, turns=False)
    places = draw_places([40, 40], (64, 64), 0, rule, np.random.default_rng(0))
    found = sampler(places, disc.shape).nearest(disc)
    assert places.zoom == zoom
    assert found.sum() == pytest.approx(disc.sum() * zoom**2, rel=0.1)


def test_flows_turn_with_the_patch() -> None:
    """In a patch of any geometry, a step along the flow comes nearer to the middle."""
    y, x = np.indices((60, 60))
    disc = ((y - 30) ** 2 + (x - 30) ** 2 < 200).astype(np.int32)
    rule = Augmentation(zoom=(0.7, 1.4), rotation_deg=180)
    for seed in range(5):
        places = draw_places([28, 33], (40, 40), 0, rule, np.random.default_rng(seed))
        objects = sampler(places, disc.shape).nearest(disc)
        flow = flows(objects, middles(disc), places)
        middle = np.argwhere(objects > 0).mean(0)
        if objects[[0, -1]].any() or objects[:, [0, -1]].any():
            continue
        at = np.argwhere(np.abs(flow).sum(0) > 0)
        way = middle - at
        far = np.linalg.norm(way, axis=1) > 3
        along = (flow[:, at[:, 0], at[:, 1]].T * way).sum(1) / np.linalg.norm(way, axis=1)
        assert along[far].min() > 0.9


def test_volumes_are_cut_too() -> None:
    volume = np.arange(8 * 20 * 20, dtype=np.float32).reshape(8, 20, 20)
    rule = NONE.model_copy(update={"turns": True, "flips": True})
    places = draw_places([4, 10, 10], (4, 6, 6), 0, rule, np.random.default_rng(3))
    cut = sampler(places, volume.shape)
    assert np.array_equal(cut.nearest(volume), cut.linear(volume[None])[0])
    elastic = Augmentation(elastic_px=1, elastic_grid_px=8, zoom=(0.8, 1.2))
    places = draw_places([4, 10, 10], (4, 6, 6), 1, elastic, np.random.default_rng(3))
    assert sampler(places, volume.shape).linear(volume[None]).shape == (1, 6, 8, 8)


def test_a_part_of_the_patches_keeps_the_images_own_pixels() -> None:
    rule = Augmentation(zoom=(0.6, 1.7), rotation_deg=30, elastic_px=2, resampled=0.25)
    whole = 0
    for seed in range(400):
        points = draw_places([20, 20], (8, 8), 1, rule, np.random.default_rng(seed)).points
        whole += np.array_equal(points, np.rint(points))
    assert 270 < whole < 330
