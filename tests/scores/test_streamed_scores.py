"""Streamed equals whole: tables, counts and scores, in every bit."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from whole import count, ratios, settings_of

from pipeline.scores.contingency import Overlaps
from pipeline.scores.find import LabelImage
from pipeline.scores.pairing import Pair
from pipeline.scores.settings import Settings
from pipeline.scores.stream import Counted, Order, count_tiles, finish
from pipeline.sources import SourceSpec

SETTINGS = settings_of(20, 50, 75)


@st.composite
def images(draw: st.DrawFn, ndim: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Two label images of blocks and of noise, with numbers of any size."""
    shape = draw(st.tuples(*[st.integers(1, 24)] * ndim))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    block = draw(st.integers(1, 6))
    numbers = random.integers(0, 2 ** draw(st.sampled_from([3, 16, 32, 63])), 7, np.uint64)
    numbers[0] = 0
    found = []
    for _ in range(2):
        coarse = random.integers(0, 7, [-(-n // block) + 1 for n in shape])
        for axis in range(ndim):
            coarse = coarse.repeat(block, axis)
        start = random.integers(0, block, ndim)
        cut = tuple(slice(int(a), int(a) + n) for a, n in zip(start, shape, strict=True))
        found.append(numbers[coarse[cut]])
    return found[0], found[1]


def same(one: Counted, other: Counted) -> bool:
    columns = zip(astuple(one.overlaps), astuple(other.overlaps), strict=True)
    return all(map(lambda pair: np.array_equal(*pair), columns)) and np.array_equal(
        one.borders, other.borders
    )


@given(
    images(), st.tuples(st.integers(1, 24), st.integers(1, 24)), st.integers(0, 4), st.booleans()
)
@settings(max_examples=150)
def test_any_tiles_in_any_order_give_the_same_bits(
    pair: tuple[np.ndarray, np.ndarray], side: tuple[int, int], tolerance: int, backwards: bool
) -> None:
    whole = count(*pair, tolerance_px=tolerance)
    tiled = count(*pair, side, tolerance, backwards)
    assert same(tiled, whole)
    assert whole.overlaps.pixels.sum() == pair[0].size
    assert finish(tiled, SETTINGS).sums == finish(whole, SETTINGS).sums
    table = np.unique(np.stack([image.ravel() for image in pair]), axis=1, return_counts=True)
    assert np.array_equal(table[0], [whole.overlaps.truth, whole.overlaps.label])
    assert np.array_equal(table[1], whole.overlaps.pixels)


@given(images(3), st.tuples(*[st.integers(1, 24)] * 3))
@settings(max_examples=40)
def test_volumes_too(pair: tuple[np.ndarray, np.ndarray], side: tuple[int, int, int]) -> None:
    assert same(count(*pair, side), count(*pair))


@given(images(), st.integers(0, 2**32))
@settings(max_examples=50)
def test_the_numbers_of_objects_do_not_matter(
    pair: tuple[np.ndarray, np.ndarray], seed: int
) -> None:
    truth, labels = pair
    names = np.unique(labels[labels > 0])
    other = np.random.default_rng(seed).permutation(len(names)).astype(np.uint64) + np.uint64(1)
    renamed = (
        np.where(labels > 0, other[np.searchsorted(names, labels).clip(max=len(names) - 1)], 0)
        if len(names)
        else labels
    )
    one, two = (finish(count(truth, image), SETTINGS) for image in (labels, renamed))
    assert ratios(one.sums, SETTINGS) == pytest.approx(ratios(two.sums, SETTINGS), nan_ok=True)


def test_tables_are_summed_in_parts_when_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.scores.contingency.WAITING_ROWS", 5)
    random = np.random.default_rng(0)
    truth, labels = random.integers(0, 9, (2, 40, 40))
    assert same(count(truth, labels, (7, 9)), count(truth, labels))


def spec(path: Path) -> LabelImage:
    return LabelImage(path.stem, SourceSpec("tiff", str(path), path.stem))


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("dtype", ["uint32", "int32"])
def test_files_are_read_by_tile(tmp_path: Path, ndim: int, dtype: str) -> None:
    """Time points are frames, and with `--dims 2d` planes too: equal numbers are other objects."""
    random = np.random.default_rng(3)
    coarse = random.integers(0, 2**20, (2, 2, 3, 6, 7))
    coarse[coarse % 3 == 0] = 0
    truth, labels = coarse.repeat(6, 3).repeat(6, 4).astype(dtype)
    labels = np.roll(labels, 2, 3)
    for name, image in (("truth", truth), ("labels", labels)):
        axes = {"axes": "TZYX"}
        tifffile.imwrite(tmp_path / f"{name}.ome.tif", image, tile=(16, 16), metadata=axes)
    pair = Pair(spec(tmp_path / "labels.ome.tif"), spec(tmp_path / "truth.ome.tif"))
    found = [
        count_tiles(Order(pair, Settings(tile_px=side, ndim=ndim)))  # type: ignore[arg-type]
        for side in (5, 16, 1000)
    ]
    assert same(found[0], found[1])
    assert same(found[0], found[2])
    frames = [f for t in range(2) for f in ([(t, z) for z in range(3)] if ndim == 2 else [(t,)])]
    whole = [count(truth[at], labels[at]) for at in frames]
    assert found[0].borders.tolist() == sum(one.borders for one in whole).tolist()
    tables = [
        Overlaps(np.full(len(one.overlaps.pixels), i), *astuple(one.overlaps)[1:])
        for i, one in enumerate(whole)
    ]
    assert same(found[0], Counted(Overlaps.sum(tables), found[0].borders))
