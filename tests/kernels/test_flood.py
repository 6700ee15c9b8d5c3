"""The flood against its definition, against skimage, and cut in two."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.segmentation import watershed

from pipeline.box import Box
from pipeline.kernels import flood_waves as module
from pipeline.kernels.flood import Sources, flood, flood_keys
from pipeline.kernels.lowering import HOPS_BITS, UNREACHED, levels_of, trace
from pipeline.kernels.neighbours import neighbour_steps
from pipeline.kernels.ordering import from_ordered, ordered_int32

CONNECTIVITIES = [(2, 4), (2, 8), (3, 6), (3, 18), (3, 26)]
Key = tuple[float, int]
ABSENT: Key = (np.inf, 0)


def entered(key: Key, altitude: float) -> Key:
    level, hops = key
    return (altitude, 0) if altitude > level else (level, hops + 1)


def neighbours(shape: tuple[int, ...], connectivity: int) -> list[list[int]]:
    steps = neighbour_steps(len(shape), connectivity)[:, 3 - len(shape) :]
    result = []
    for p in np.ndindex(shape):
        near = [tuple(np.add(p, s)) for s in steps]
        inside = [q for q in near if all(0 <= i < n for i, n in zip(q, shape, strict=True))]
        result.append([int(np.ravel_multi_index(q, shape)) for q in inside])
    return result


def by_definition(
    altitude: np.ndarray, region: np.ndarray, given_keys: dict[int, Key], connectivity: int
) -> tuple[np.ndarray, list[Key]]:
    """Relax every pixel until nothing changes (Bellman-Ford), then follow predecessors."""
    a, r = altitude.ravel().tolist(), region.ravel().tolist()
    near = [
        [q for q in around if r[q] == r[p] > 0]
        for p, around in enumerate(neighbours(altitude.shape, connectivity))
    ]
    keys = [given_keys.get(p, ABSENT) if r[p] > 0 else ABSENT for p in range(len(a))]
    changed = True
    while changed:
        changed = False
        for p in range(len(a)):
            if p in given_keys:
                continue
            best = min(
                (entered(keys[q], a[p]) for q in near[p] if keys[q] != ABSENT), default=ABSENT
            )
            if best != keys[p]:
                keys[p], changed = best, True
    roots = np.full(len(a), -1)
    for p in range(len(a)):
        q = p
        while keys[q] != ABSENT and q not in given_keys:
            tight = [n for n in near[q] if keys[n] != ABSENT and entered(keys[n], a[q]) == keys[q]]
            q = min(tight, key=lambda n: (keys[n], n))
        roots[p] = q if keys[q] != ABSENT else -1
    return roots.reshape(altitude.shape), keys


def flood_all(
    altitude: np.ndarray,
    region: np.ndarray,
    sources: np.ndarray,
    levels: np.ndarray,
    hops: np.ndarray,
    connectivity: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Roots, levels and hops of all pixels; 0 and -1 where the flood does not come."""
    given = Sources(sources, levels, hops)
    keys = flood_keys(altitude, region, given, connectivity)
    reached = keys != UNREACHED
    level = from_ordered(levels_of(np.where(reached, keys, 0)), altitude.dtype)
    reached_after = np.where(reached, keys & (2**HOPS_BITS - 1), -1)
    number = flood(altitude, region, given, connectivity)
    # Following the finished keys back gives the same roots.
    traced = trace(
        keys, ordered_int32(altitude), region, sources, Box.whole(altitude.shape), connectivity
    )
    assert np.array_equal(traced, np.where(reached, number, traced))
    return np.append(sources, -1)[number - 1].astype(np.int32), level, reached_after


def from_markers(
    altitude: np.ndarray, region: np.ndarray, sources: np.ndarray, connectivity: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    levels = altitude.ravel()[sources]
    return flood_all(
        altitude, region, sources, levels, np.zeros(sources.size, np.int32), connectivity
    )


def assert_same(found: tuple[np.ndarray, ...], roots: np.ndarray, keys: list[Key]) -> None:
    assert np.array_equal(found[0], roots)
    found_keys = zip(found[1].ravel().tolist(), found[2].ravel().tolist(), strict=True)
    for root, key, expected in zip(roots.ravel(), found_keys, keys, strict=True):
        assert key == (expected if root >= 0 else (0, -1))


@pytest.fixture(params=["buckets", "heap"])
def queue(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "heap":
        monkeypatch.setattr(module, "BUCKET_RANGE", 0)
    return str(request.param)


def draw_window(rng: np.random.Generator, ndim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shape = tuple(int(n) for n in rng.integers(1, 10 if ndim == 2 else 6, ndim))
    altitude = rng.integers(-2, rng.integers(-1, 3), shape).astype(np.int32)
    region = rng.integers(0, rng.integers(2, 4), shape).astype(np.int32)
    if rng.random() < 0.4:
        region[:] = 1
    count = min(altitude.size, int(rng.integers(0, 6)))
    return altitude, region, rng.choice(altitude.size, count, replace=False).astype(np.int64)


@pytest.mark.parametrize(("ndim", "connectivity"), CONNECTIVITIES)
@pytest.mark.parametrize("seed", range(60))
def test_equals_the_definition(queue: str, ndim: int, connectivity: int, seed: int) -> None:
    rng = np.random.default_rng([seed, connectivity])
    altitude, region, sources = draw_window(rng, ndim)
    levels = altitude.ravel()[sources]
    hops = np.zeros(sources.size, np.int32)
    if seed % 2:  # the keys of a tile's ring: any level, any number of hops
        levels = rng.integers(-3, 4, sources.size).astype(np.int32)
        hops = rng.integers(0, 5, sources.size).astype(np.int32)
    keys = {int(s): (int(a), int(h)) for s, a, h in zip(sources, levels, hops, strict=True)}
    expected = by_definition(altitude, region, keys, connectivity)
    assert_same(flood_all(altitude, region, sources, levels, hops, connectivity), *expected)
    # Halves are exact in float32, and negative zero is among them.
    as_float = altitude.astype(np.float32) * np.float32(-0.5) * np.float32(-1)
    found = flood_all(
        as_float, region, sources, levels.astype(np.float32) * np.float32(0.5), hops, connectivity
    )
    assert found[1].dtype == np.float32
    assert_same((found[0], found[1] * 2, found[2]), *expected)


@given(seed=st.integers(0, 2**32), top=st.sampled_from([1, 3, 60, 1000, 250_000]))
@settings(max_examples=60, deadline=None)
def test_buckets_equal_the_heap(seed: int, top: int) -> None:
    rng = np.random.default_rng(seed)
    altitude = rng.integers(-top, top + 1, (40, 50)).astype(np.int32)
    region = np.repeat(np.repeat(rng.integers(0, 4, (8, 10)), 5, 0), 5, 1).astype(np.int32)
    sources = rng.choice(altitude.size, 40, replace=False)
    levels = rng.integers(-top, top + 1, 40).astype(np.int32)
    hops = rng.integers(0, 4, 40).astype(np.int32)
    buckets = flood_all(altitude, region, sources, levels, hops, 8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BUCKET_RANGE", 0)
        heap = flood_all(altitude, region, sources, levels, hops, 8)
    for a, b in zip(buckets, heap, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize(("ndim", "connectivity"), CONNECTIVITIES)
@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_equals_skimage_where_altitudes_are_distinct(
    queue: str, ndim: int, connectivity: int, masked: bool, dtype: type
) -> None:
    rng = np.random.default_rng(connectivity)
    shape = (60, 70) if ndim == 2 else (12, 20, 22)
    size = int(np.prod(shape))
    altitude = rng.permutation(size).reshape(shape).astype(dtype)
    mask = rng.random(shape) < 0.7 if masked else np.ones(shape, np.bool_)
    inside = np.flatnonzero(mask)
    sources = np.sort(rng.choice(inside, 30, replace=False))
    markers = np.zeros(size, np.int32)
    markers[sources] = np.arange(1, 31)
    rank = {4: 1, 8: 2, 6: 1, 18: 2, 26: 3}[connectivity]
    theirs = watershed(altitude, markers.reshape(shape), connectivity=rank, mask=mask)
    root, _, _ = from_markers(altitude, mask.astype(np.int32), sources, connectivity)
    ours = np.where(root >= 0, markers[root], 0)
    assert np.count_nonzero(ours != theirs) == 0


@pytest.mark.parametrize("levels", [1, 2, 4, 1000])
def test_equal_in_every_crop_that_holds_the_region(queue: str, levels: int) -> None:
    rng = np.random.default_rng(levels)
    altitude = rng.integers(0, levels, (50, 60)).astype(np.int32)
    region = rng.integers(0, 3, (50, 60)).astype(np.int32)
    region[12:31, 20:44] = np.where(rng.random((19, 24)) < 0.8, 7, 2)
    sources = np.flatnonzero((rng.random((50, 60)) < 0.02) & (region > 0))
    whole = from_markers(altitude, region, sources, 8)
    own = region == 7
    for top, bottom, left, right in [(12, 31, 20, 44), (3, 50, 0, 45), (12, 40, 19, 60)]:
        box = (slice(top, bottom), slice(left, right))
        y, x = np.unravel_index(sources, region.shape)
        held = (y >= top) & (y < bottom) & (x >= left) & (x < right)
        local = (y[held] - top) * (right - left) + x[held] - left
        crop = from_markers(altitude[box], region[box], local, 8)
        back = np.append(sources[held], -1)[
            np.searchsorted(local, np.where(crop[0] < 0, local.max() + 1, crop[0]))
        ]
        assert np.array_equal(back[own[box]], whole[0][own])
        for a, b in zip(crop[1:], whole[1:], strict=True):
            assert np.array_equal(a[own[box]], b[own])


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_flips_keep_the_keys_and_change_roots_only_by_the_index_tie_break(
    axes: tuple[int, ...],
) -> None:
    rng = np.random.default_rng(5)
    shape = (40, 44)
    index = np.arange(40 * 44).reshape(shape)
    flipped_index = np.ascontiguousarray(np.flip(index, axes))
    for levels, may_differ in [(3, True), (10**6, False)]:
        altitude = (
            rng.permutation(index.size).reshape(shape)
            if not may_differ
            else rng.integers(0, levels, shape)
        ).astype(np.int32)
        region = (rng.random(shape) < 0.9).astype(np.int32)
        sources = np.flatnonzero((rng.random(shape) < 0.02) & (region > 0))
        one = from_markers(altitude, region, sources, 8)
        turned = np.flatnonzero(np.isin(flipped_index, sources))
        two = from_markers(np.flip(altitude, axes), np.flip(region, axes), turned, 8)
        for a, b in zip(one[1:], two[1:], strict=True):
            assert np.array_equal(a, np.flip(b, axes))
        back = np.flip(np.where(two[0] < 0, -1, flipped_index.ravel()[two[0]]), axes)
        assert may_differ or np.array_equal(back, one[0])


def halves(width: int, cut: int) -> list[tuple[slice, int]]:
    """Columns of the two windows (core and ring) and the ring's column in the image."""
    return [(slice(0, cut + 1), cut), (slice(cut - 1, width), cut - 1)]


@pytest.mark.parametrize("levels", [1, 2, 4, 50])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("connectivity", [4, 8])
def test_two_halves_that_exchange_keys_equal_the_whole(
    queue: str, levels: int, seed: int, connectivity: int
) -> None:
    rng = np.random.default_rng([seed, levels])
    shape, cut = (14, 20), 9
    altitude = rng.integers(0, levels, shape).astype(np.int32)
    region = (rng.random(shape) < (0.8 if seed % 2 else 2.0)).astype(np.int32)
    markers = rng.choice(np.flatnonzero(region), 5, replace=False)
    whole = from_markers(altitude, region, markers, connectivity)

    index = np.arange(altitude.size).reshape(shape)
    reached, level, hops = (np.zeros(shape, t) for t in (np.bool_, np.int32, np.int32))
    root = np.full(shape, -1)
    for _ in range(200):
        before = (reached.copy(), level.copy(), hops.copy())
        for columns, ring in halves(shape[1], cut):
            ids = index[:, columns]
            is_ring = ids % shape[1] == ring
            is_marker = np.isin(ids, markers) & ~is_ring
            own = np.flatnonzero((is_ring & before[0][:, columns]) | is_marker)
            here = ids.ravel()[own]
            key_level = np.where(
                is_marker.ravel()[own], altitude.ravel()[here], before[1].ravel()[here]
            )
            key_hops = np.where(is_marker.ravel()[own], 0, before[2].ravel()[here])
            found = flood_all(
                altitude[:, columns],
                region[:, columns],
                own,
                key_level.astype(np.int32),
                key_hops.astype(np.int32),
                connectivity,
            )
            core = ~is_ring
            target = ids[core]
            reached.ravel()[target] = found[0][core] >= 0
            level.ravel()[target] = found[1][core]
            hops.ravel()[target] = found[2][core]
            local = found[0][core]
            root.ravel()[target] = np.where(local < 0, -1, ids.ravel()[local])
        if all(np.array_equal(a, b) for a, b in zip(before, (reached, level, hops), strict=True)):
            break
    else:
        pytest.fail("the keys did not come to rest")
    assert np.array_equal(level, whole[1])
    assert np.array_equal(hops, whole[2])
    assert np.array_equal(reached, whole[0] >= 0)
    # A root on the other side's core is not final: follow it until it is its own root.
    flat = root.ravel()
    for _ in range(altitude.size):
        flat = np.where(flat < 0, -1, root.ravel()[flat])
    assert np.array_equal(flat.reshape(shape), whole[0])


def test_a_source_keeps_its_key_and_outside_sources_are_ignored(queue: str) -> None:
    altitude = np.zeros((1, 6), np.int32)
    region = np.array([[1, 1, 1, 1, 0, 1]], np.int32)
    found = flood_all(
        altitude, region, np.array([3, 0, 4]), np.array([9, 0, 0], np.int32),
        np.array([7, 2, 0], np.int32), 4,
    )  # fmt: skip
    assert found[0].tolist() == [[0, 0, 0, 3, -1, -1]]
    assert found[1].tolist() == [[0, 0, 0, 9, 0, 0]]
    assert found[2].tolist() == [[2, 3, 4, 7, -1, -1]]


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 2)])
def test_without_sources_nothing_is_reached(shape: tuple[int, int]) -> None:
    window = np.ones(shape, np.int32)
    root, level, hops = from_markers(window, window, np.empty(0, np.int64), 8)
    assert root.shape == shape
    assert np.all(root == -1)
    assert not level.any()
    assert (hops == -1).all()


def test_region_numbers_and_altitudes_may_be_extreme(queue: str) -> None:
    top = 2**31 - 1
    altitude = np.array([[-top - 1, top, 0, 5], [top, top, -5, -top - 1]], np.int32)
    region = np.array([[top, top, 3, 3], [top, top, 3, 3]], np.int32)
    sources = np.array([0, 7])
    keys = {int(s): (int(altitude.ravel()[s]), 0) for s in sources}
    assert_same(
        from_markers(altitude, region, sources, 4), *by_definition(altitude, region, keys, 4)
    )


def test_infinite_altitudes_are_the_highest() -> None:
    altitude = np.array([[0, np.inf, 1, -np.inf, 2]], np.float32)
    root, level, _ = from_markers(altitude, np.ones((1, 5), np.int32), np.array([0]), 4)
    assert root.tolist() == [[0] * 5]
    assert level.tolist() == [[0, np.inf, np.inf, np.inf, np.inf]]


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=2, max_size=30))
def test_ordered_int32_keeps_the_order_of_floats(values: list[float]) -> None:
    floats = np.array(values, np.float32)
    ordered = ordered_int32(floats)
    for (f, i), (g, j) in itertools.combinations(zip(floats, ordered, strict=True), 2):
        assert (f < g) == (i < j)
        assert (f == g) == (i == j)


def test_strided_and_read_only_windows_are_accepted() -> None:
    rng = np.random.default_rng(3)
    altitude = rng.integers(0, 9, (20, 22)).astype(np.int32)
    ones = np.ones_like(altitude)
    expected = from_markers(np.ascontiguousarray(altitude.T), ones.T, np.array([5, 100]), 8)
    altitude.flags.writeable = False
    found = from_markers(altitude.T, ones.T, np.array([5, 100]), 8)
    assert np.array_equal(found[0], expected[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"connectivity": 6}, "connectivity"),
        ({"sources": np.array([0, 0])}, "twice"),
        ({"sources": np.array([0, 9])}, "outside"),
        ({"hops": np.array([0, -1], np.int32)}, "hops"),
        ({"levels": np.zeros(2, np.float32)}, "levels"),
        ({"levels": np.zeros(3, np.int32)}, "length"),
        ({"region": np.ones((2, 3), np.int32)}, "region"),
    ],
)
def test_refuses_what_does_not_fit(changes: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "altitude": np.zeros((3, 3), np.int32),
        "region": np.ones((3, 3), np.int32),
        "sources": np.array([0, 1]),
        "levels": np.zeros(2, np.int32),
        "hops": np.zeros(2, np.int32),
        "connectivity": 8,
    }
    with pytest.raises(ValueError, match=message):
        flood_all(**(arguments | changes))  # type: ignore[arg-type]


def test_refuses_nan() -> None:
    altitude = np.array([[0, np.nan]], np.float32)
    with pytest.raises(ValueError, match="NaN"):
        from_markers(altitude, np.ones((1, 2), np.int32), np.array([0]), 4)
