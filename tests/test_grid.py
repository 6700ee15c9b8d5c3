"""Tiles: their numbers, neighbours, and which of them touch a box."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.box import Box
from pipeline.box import grid as cut_boxes
from pipeline.grid import TileGrid, linear_index
from pipeline.image import ImageInfo


def info(shape: tuple[int, int, int, int, int]) -> ImageInfo:
    names = tuple(str(i) for i in range(shape[1]))
    return ImageInfo(shape, "uint8", "tczyx", names, (None, None, None), None, shape)


GRIDS = st.builds(
    lambda frames, sizes: TileGrid(
        frames, tuple(n for n, _ in sizes), tuple(min(s, n) for n, s in sizes)
    ),
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 6)), min_size=2, max_size=3),
)


def test_frames_are_planes_or_volumes() -> None:
    image = info((2, 3, 4, 50, 60))
    planes = TileGrid.of(image, 2, 16)
    assert (planes.frames, planes.shape, planes.side) == (8, (50, 60), (16, 16))
    volumes = TileGrid.of(image, 3, 16)
    assert (volumes.frames, volumes.shape, volumes.side) == (2, (4, 50, 60), (4, 16, 16))
    assert volumes.counts == (1, 4, 4)
    assert len(volumes) == 32


@given(GRIDS)
def test_tiles_are_numbered_by_frame_then_in_raster_order(grid: TileGrid) -> None:
    expected = [
        (frame, index, box)
        for frame in range(grid.frames)
        for index, box in cut_boxes(grid.shape, grid.side)
    ]
    tiles = list(grid.tiles())
    assert [(t.frame, t.index, t.core) for t in tiles] == expected
    assert [t.number for t in tiles] == list(range(len(grid)))
    assert len(grid) == len(expected)


@given(GRIDS)
def test_neighbours_are_one_step_away_and_mutual(grid: TileGrid) -> None:
    tiles = {(t.frame, t.index): t for t in grid.tiles()}
    for tile in tiles.values():
        for direction in itertools.product((-1, 0, 1), repeat=grid.ndim):
            index = tuple(i + d for i, d in zip(tile.index, direction, strict=True))
            assert grid.neighbour(tile, direction) == tiles.get((tile.frame, index))


@given(GRIDS, st.data())
def test_touching_tiles_are_those_that_share_pixels(grid: TileGrid, data: st.DataObject) -> None:
    start = tuple(data.draw(st.integers(0, n - 1)) for n in grid.shape)
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, grid.shape, strict=True))
    frame = data.draw(st.integers(0, grid.frames - 1))
    box = Box(start, stop)
    expected = [t for t in grid.tiles() if t.frame == frame and t.core.intersect(box).size]
    assert list(grid.touching(frame, box)) == expected


@given(GRIDS)
def test_anchors_of_a_band_precede_those_of_the_next(grid: TileGrid) -> None:
    ranges: dict[int, list[int]] = {}
    for tile in grid.tiles():
        first = linear_index(tile.frame, grid.shape, tile.core.start)
        last = linear_index(tile.frame, grid.shape, tuple(b - 1 for b in tile.core.stop))
        ranges.setdefault(grid.band(tile), []).extend([first, last])
    bands = [ranges[number] for number in sorted(ranges)]
    assert sorted(ranges) == list(range(len(ranges)))
    assert all(max(a) < min(b) for a, b in itertools.pairwise(bands))


def test_linear_index_is_that_of_numpy() -> None:
    shape = (3, 4, 5)
    for frame, place in ((0, (0, 0, 0)), (1, (2, 3, 4)), (6, (0, 3, 1))):
        expected = np.ravel_multi_index((frame, *place), (7, *shape))
        assert linear_index(frame, shape, place) == expected


def test_there_is_no_tile_behind_the_last_axis() -> None:
    grid = TileGrid(1, (4, 4), (2, 2))
    with pytest.raises(ValueError, match="zip"):
        grid.neighbour(grid.tile(0), (1,))
