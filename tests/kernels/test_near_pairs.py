"""Near objects against all distances between all pixels, for any window."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from scipy import ndimage
from scipy.spatial.distance import cdist
from skimage.measure import label

from pipeline.kernels.near_pairs import near_pairs
from pipeline.kernels.object_blocks import object_blocks

Pairs = set[tuple[int, int]]
THOROUGH = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)


@st.composite
def frames(draw: DrawFn) -> np.ndarray:
    """Frames of several blocks along each axis: parts, single pixels, and objects of far parts."""
    flat = draw(st.booleans())
    sizes = st.integers(1, 45) if flat else st.integers(2, 14)
    shape = (1 if flat else draw(sizes), draw(sizes), draw(sizes))
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    sigma = draw(st.sampled_from([0, 1, 2]))
    rough = ndimage.gaussian_filter(generator.random(shape), (0 if flat else sigma, sigma, sigma))
    mask = rough <= np.quantile(rough, draw(st.sampled_from([0.02, 0.1, 0.4, 1.0])))
    parts = label(mask, connectivity=1)
    if draw(st.booleans()):  # several parts an object, so that boxes lie in each other
        parts = np.where(mask, parts % draw(st.integers(1, 9)) + 1, 0)
    return parts.astype(np.uint32)


def expected(frame: np.ndarray, radius: float) -> Pairs:
    places = {int(n): np.argwhere(frame == n) for n in np.unique(frame[frame > 0])}
    return {
        (a, b)
        for a, b in itertools.permutations(places, 2)
        if cdist(places[a], places[b], "sqeuclidean").min() <= radius * radius
    }


def halo_of(frame: np.ndarray, radius: float) -> tuple[int, int, int]:
    px = int(radius)
    return (px if len(frame) > 1 else 0), px, px


def found(frame: np.ndarray, radius: float, side: tuple[int, int, int]) -> Pairs:
    """Pairs of all tiles of a frame."""
    halo = halo_of(frame, radius)
    around = np.pad(frame, [(h, h) for h in halo])
    pairs: Pairs = set()
    for start in itertools.product(
        *(range(0, n, s) for n, s in zip(frame.shape, side, strict=True))
    ):
        stop = [min(a + s, n) for a, s, n in zip(start, side, frame.shape, strict=True)]
        cut = tuple(slice(a, b + 2 * h) for a, b, h in zip(start, stop, halo, strict=True))
        rows = near_pairs(np.ascontiguousarray(around[cut]), halo, radius).tolist()
        assert rows == sorted(map(list, {(a, b) for a, b in rows})), "each once, in order"
        pairs |= {(a, b) for a, b in rows}
    return pairs


@given(
    frame=frames(),
    radius=st.sampled_from([1, 1.5, 2, 3, 5, 8.25, 13]),
    side=st.tuples(st.integers(3, 50), st.integers(3, 50), st.integers(3, 50)),
)
@THOROUGH
def test_any_tiles_find_the_pairs_that_all_distances_say(
    frame: np.ndarray, radius: float, side: tuple[int, int, int]
) -> None:
    wanted = expected(frame, radius)
    assert found(frame, radius, frame.shape) == wanted
    assert found(frame, radius, side) == wanted


@pytest.mark.parametrize("step", [(0, 3, 4), (0, 0, 5), (3, 0, 4), (2, 3, 6), (5, 5, 5)])
def test_a_pair_is_near_at_just_the_distance(step: tuple[int, int, int]) -> None:
    frame = np.zeros((9, 20, 20) if step[0] else (1, 20, 20), np.uint32)
    frame[0, 7, 7], frame[step[0], 7 + step[1], 7 + step[2]] = 1, 2
    exact = float(np.hypot.reduce(step))
    exact = exact if exact.is_integer() else np.nextafter(exact, 9)
    assert found(frame, exact, frame.shape) == {(1, 2), (2, 1)}
    assert found(frame, np.nextafter(int(exact), 0), frame.shape) == set()


def test_long_objects_that_run_beside_each_other_are_looked_at_in_all_their_blocks() -> None:
    # Two combs whose boxes lie in each other; they are nearest at one place.
    frame = np.zeros((1, 60, 60), np.uint32)
    frame[0, ::12, :] = 1
    frame[0, 6::12, :] = 2
    assert found(frame, 5, frame.shape) == set()
    frame[0, 41, 58] = 1  # a tooth toward the next line, at 42
    assert found(frame, 1, frame.shape) == {(1, 2), (2, 1)}
    assert found(frame, 1, (1, 16, 16)) == {(1, 2), (2, 1)}


def test_blocks_hold_the_border_and_no_more() -> None:
    frame = np.zeros((12, 12, 12), np.uint32)
    frame[1:11, 1:11, 1:11] = 5
    blocks = object_blocks(frame)
    held = np.zeros(frame.shape, bool)
    for z, y, x, to_z, to_y, to_x in blocks.boxes.tolist():
        held[z : to_z + 1, y : to_y + 1, x : to_x + 1] = True
    assert not held[4:8, 4:8, 4:8].any()  # the block in the middle
    border = (frame > 0) & ~ndimage.binary_erosion(frame > 0)
    assert held[border].all()
    assert blocks.owners.tolist() == [5]
    assert blocks.hulls.tolist() == [[1, 1, 1, 10, 10, 10]]
