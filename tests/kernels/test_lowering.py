"""Keys that fall: against floods and reconstructions that begin anew."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.box import Box
from pipeline.kernels.flood import Sources, flood_keys
from pipeline.kernels.lowering import UNREACHED, keys_at, levels_of, lower
from pipeline.kernels.ordering import from_ordered, ordered_int32
from pipeline.kernels.reconstruction import reconstruct

CONNECTIVITIES = [(2, 4), (2, 8), (3, 6), (3, 18), (3, 26)]


def draw(
    rng: np.random.Generator, ndim: int, dtype: str = "int32"
) -> tuple[np.ndarray, np.ndarray]:
    shape = tuple(int(n) for n in rng.integers(1, 16 if ndim == 2 else 8, ndim))
    altitude = rng.integers(-2, rng.integers(0, 6), shape).astype(dtype) / np.array(1, dtype)
    region = rng.integers(0, rng.integers(2, 4), shape).astype(np.int32)
    return altitude.astype(dtype), region


@pytest.mark.parametrize("dtype", ["int32", "float32"])
@pytest.mark.parametrize(("ndim", "connectivity"), CONNECTIVITIES)
def test_a_ring_that_comes_later_is_as_one_that_was_there(
    ndim: int, connectivity: int, dtype: str
) -> None:
    rng = np.random.default_rng(ndim * connectivity)
    fallen = 0
    for _ in range(150):
        altitude, region = draw(rng, ndim, dtype)
        core = Box(
            tuple(int(rng.integers(0, 2)) for _ in region.shape),
            tuple(n - int(rng.integers(0, 2)) for n in region.shape),
        )
        inside = np.zeros_like(region)
        inside[core.slices] = region[core.slices]
        places = np.flatnonzero(inside)
        chosen = rng.choice(places, min(len(places), int(rng.integers(0, 4))), replace=False)
        markers = Sources.markers(chosen.astype(np.int64), altitude)
        keys = flood_keys(altitude, inside, markers, connectivity)
        ring = np.flatnonzero((region > 0) & (inside == 0))
        ring = ring[rng.random(len(ring)) < 0.6]
        levels = altitude.reshape(-1)[ring] + rng.integers(0, 3, len(ring)).astype(dtype)
        hops = rng.integers(0, 4, len(ring)).astype(np.int32)
        both = Sources(
            np.concatenate([markers.pixel, ring]),
            np.concatenate([markers.level, levels]),
            np.concatenate([markers.hops, hops]),
        )
        inside.reshape(-1)[ring] = region.reshape(-1)[ring]
        expected = flood_keys(altitude, inside, both, connectivity)
        before = keys.copy()
        keys.reshape(-1)[ring] = (ordered_int32(levels).astype(np.int64) << 31) + hops
        lower(keys, ordered_int32(altitude), region, core, connectivity, ring, 1)
        assert np.array_equal(keys, expected)
        fallen += int((keys < before).sum()) - len(ring)
    assert fallen > 300


@pytest.mark.parametrize("dtype", ["int32", "float32"])
@pytest.mark.parametrize(("ndim", "connectivity"), CONNECTIVITIES)
def test_without_hops_it_is_a_reconstruction(ndim: int, connectivity: int, dtype: str) -> None:
    rng = np.random.default_rng(ndim + connectivity)
    changed = 0
    for _ in range(100):
        height, region = draw(rng, ndim, dtype)
        start = np.minimum(height, rng.integers(-6, -1)).astype(dtype)
        before = reconstruct(start.copy(), height, region, connectivity)
        p = int(rng.integers(height.size))
        raised = before.copy()
        raised.reshape(-1)[p] = height.reshape(-1)[p]
        expected = reconstruct(raised.copy(), height, region, connectivity)
        keys = keys_at(np.invert(ordered_int32(before)))
        keys.reshape(-1)[p] = keys_at(np.invert(ordered_int32(raised))).reshape(-1)[p]
        altitude = np.invert(ordered_int32(height))
        begun = np.array([p] if region.reshape(-1)[p] > 0 else [], np.int64)
        lower(keys, altitude, region, Box.whole(height.shape), connectivity, begun, 0)
        found = from_ordered(np.invert(levels_of(keys)), dtype)
        assert np.array_equal(found, expected)
        changed += int((expected != raised).sum())
    assert changed > 50


def test_nothing_changes_outside_of_the_inner_part() -> None:
    altitude, region = np.zeros((5, 6), np.int32), np.ones((5, 6), np.int32)
    keys = np.full((5, 6), UNREACHED)
    keys[0, 2] = 0
    lower(keys, altitude, region, Box((1, 1), (4, 5)), 4, np.array([2]), 1)
    assert keys[0].tolist() == [UNREACHED, UNREACHED, 0, UNREACHED, UNREACHED, UNREACHED]
    assert keys[1].tolist() == [UNREACHED, 2, 1, 2, 3, UNREACHED]
    assert (keys[:, [0, 5]] == UNREACHED).all()
    assert (keys[4] == UNREACHED).all()


def test_the_heap_grows() -> None:
    altitude = np.random.default_rng(0).integers(0, 1000, (300, 300)).astype(np.int32)
    region = np.ones((300, 300), np.int32)
    keys = np.full((300, 300), UNREACHED)
    keys[0, 0] = keys_at(altitude)[0, 0]
    lower(keys, altitude, region, Box.whole((300, 300)), 8, np.array([0]), 1)
    expected = flood_keys(altitude, region, Sources.markers(np.array([0]), altitude), 8)
    assert np.array_equal(keys, expected)
