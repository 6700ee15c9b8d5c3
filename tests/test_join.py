"""Joining of pieces made by hand."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pytest
from scipy import ndimage

from pipeline.grid import TileGrid, linear_index
from pipeline.join import contacts, join_pieces
from pipeline.joined import Joined
from pipeline.kernels.components import AXES_APART
from pipeline.kernels.measure import geometry
from pipeline.pieces import faces_of, pair_codes, split_codes
from pipeline.recipe_sections import PostprocessSection

Record = Mapping[str, np.ndarray]


def record(
    grid: TileGrid,
    number: int,
    labels: np.ndarray,
    touching: int = 0,
    keys: list[int] | None = None,
    links: list[tuple[int, int]] = (),
) -> Record:
    """What a tile tells of its labels, without background pieces and intensities."""
    tile = grid.tile(number)
    labels = np.ascontiguousarray(labels, np.uint32)
    count = int(labels.max(initial=0))
    shape = geometry(labels, count)
    places = np.stack(np.unravel_index(shape.first, labels.shape), axis=1) + tile.core.start
    anchors = [linear_index(tile.frame, grid.shape, tuple(place)) for place in places]
    origin = np.array((0, *tile.core.start)[-3:])
    return {
        "objects": np.array(count),
        "touching": np.array(touching),
        "anchor": np.array(anchors, np.int64),
        "area": shape.area,
        "start": shape.start + origin,
        "stop": shape.stop + origin,
        "keys": np.array([-1] * count if keys is None else keys, np.int64),
        "links": np.array(links, np.int64).reshape(-1, 2),
        **faces_of(labels),
    }


def joined_image(grid: TileGrid, tiles: list[np.ndarray], joined: Joined) -> np.ndarray:
    found = np.zeros((grid.frames, *grid.shape), np.int64)
    for tile, labels in zip(grid.tiles(), tiles, strict=True):
        found[(tile.frame, *tile.core.slices)] = joined.table(tile.number)[labels]
    return found


def join(grid: TileGrid, records: list[Record], **post: object) -> Joined:
    return join_pieces(grid, records.__getitem__, PostprocessSection(**post))


GRID = TileGrid(1, (2, 4), (2, 2))
LEFT, RIGHT = np.array([[1, 0], [0, 2]]), np.array([[0, 1], [2, 0]])


def test_touching_means_nothing_unless_a_tile_says_so() -> None:
    joined = join(GRID, [record(GRID, 0, LEFT), record(GRID, 1, RIGHT)])
    assert joined.count == 4
    assert joined.table(0).tolist() == [0, 1, 3]
    assert joined.table(1).tolist() == [0, 2, 4]


def test_pieces_that_touch_are_one_and_numbers_follow_first_pixels() -> None:
    joined = join(GRID, [record(GRID, 0, LEFT, 4), record(GRID, 1, RIGHT, 4)])
    image = joined_image(GRID, [LEFT, RIGHT], joined)
    assert image.tolist() == [[[1, 0, 0, 2], [0, 3, 3, 0]]]
    assert joined.offsets.tolist() == [0, 2, 4]
    assert joined.labels.dtype == np.uint32


def test_pieces_with_equal_keys_are_one_wherever_they_lie() -> None:
    grid = TileGrid(2, (2, 4), (2, 2))
    records = [
        record(grid, 0, LEFT, keys=[7, -1]),
        record(grid, 1, RIGHT, keys=[-1, 7]),
        record(grid, 2, LEFT, keys=[3, 9]),
        record(grid, 3, RIGHT, keys=[9, -1]),
    ]
    joined = join(grid, records)
    assert [joined.table(n).tolist() for n in range(4)] == [
        [0, 1, 3],
        [0, 2, 1],
        [0, 4, 5],
        [0, 5, 6],
    ]


def test_links_lead_to_the_object_that_has_the_pixel() -> None:
    # Label 2 of the left tile belongs to whatever has pixel (1, 2), that is label 2 of the right.
    there = linear_index(0, (2, 4), (1, 2))
    empty = linear_index(0, (2, 4), (0, 2))
    records = [record(GRID, 0, LEFT, links=[(2, there), (1, empty)]), record(GRID, 1, RIGHT)]
    assert joined_image(GRID, [LEFT, RIGHT], join(GRID, records)).tolist() == [
        [[1, 0, 0, 2], [0, 3, 3, 0]]
    ]


def test_links_reach_through_a_chain_of_tiles_and_stay_in_their_frame() -> None:
    grid = TileGrid(2, (1, 6), (1, 2))
    row = np.array([[1, 1]])
    records = [
        record(grid, n, row, links=[(1, linear_index(n // 3, (1, 6), (0, x)))] if x < 6 else [])
        for n, x in enumerate([2, 4, 6] * 2)
    ]
    joined = join(grid, records)
    assert joined.labels.tolist() == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize(("ndim", "connectivity"), [(n, c) for n in (2, 3) for c in AXES_APART[n]])
def test_contacts_are_all_pairs_of_neighbouring_pixels(ndim: int, connectivity: int) -> None:
    generator = np.random.default_rng(connectivity)
    shape, side = ((9, 10), (3, 4)) if ndim == 2 else ((5, 4, 7), (2, 3, 3))
    grid = TileGrid(2, shape, side)
    tiles = [generator.integers(0, 3, tile.core.shape) for tile in grid.tiles()]
    records = [record(grid, n, labels) for n, labels in enumerate(tiles)]
    found = set()
    for here, there, a, b in contacts(grid, records.__getitem__, connectivity):
        pairs = [(here, int(i), there, int(j)) for i, j in zip(a, b, strict=True)]
        assert len(set(pairs)) == len(pairs)
        found.update(pairs)
    owner = np.zeros((2, *shape), int)
    label = np.zeros((2, *shape), int)
    for tile, labels in zip(grid.tiles(), tiles, strict=True):
        owner[(tile.frame, *tile.core.slices)] = tile.number
        label[(tile.frame, *tile.core.slices)] = labels
    expected = set()
    steps = itertools.product((-1, 0, 1), repeat=ndim)
    steps = [s for s in steps if 0 < sum(map(abs, s)) <= AXES_APART[ndim][connectivity]]
    for place, step in itertools.product(np.ndindex(2, *shape), steps):
        other = (place[0], *(int(p + d) for p, d in zip(place[1:], step, strict=True)))
        if any(not 0 <= p < n for p, n in zip(other[1:], shape, strict=True)):
            continue
        pair = (int(owner[place]), int(label[place]), int(owner[other]), int(label[other]))
        if pair[0] < pair[2] and pair[1] and pair[3]:
            expected.add(pair)
    assert found == expected


def test_size_and_border_are_those_of_whole_objects() -> None:
    grid = TileGrid(1, (4, 6), (4, 3))
    image = np.array(
        [[0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0], [2, 0, 0, 0, 3, 0]]
    )
    tiles = [ndimage.label(image[:, :3])[0], ndimage.label(image[:, 3:])[0]]
    records = [record(grid, n, labels, 4) for n, labels in enumerate(tiles)]

    def kept(**post: object) -> list[int]:
        return np.unique(
            image[joined_image(grid, tiles, join(grid, records, **post))[0] > 0]
        ).tolist()

    assert kept() == [1, 2, 3]
    assert kept(min_size_px=4) == [1]
    assert kept(min_size_px=5) == []
    assert kept(max_size_px=3) == [2, 3]
    assert kept(clear_border=True) == [1]


def test_dropped_objects_leave_no_gap_in_the_numbers() -> None:
    labels = np.array([[1, 0, 2, 2], [0, 0, 0, 0], [3, 0, 4, 4]])
    grid = TileGrid(1, (3, 4), (3, 4))
    joined = join(grid, [record(grid, 0, labels)], min_size_px=2)
    assert joined.table(0).tolist() == [0, 0, 1, 0, 2]
    assert joined.count == 2


def test_an_image_without_objects_joins_to_nothing() -> None:
    empty = np.zeros((2, 2), int)
    joined = join(GRID, [record(GRID, 0, empty, 8), record(GRID, 1, empty, 8)])
    assert joined.count == 0
    assert joined.table(1).tolist() == [0]


def test_codes_hold_pairs_of_any_labels() -> None:
    a = np.array([5, 2**32 - 1, 0, 9], np.uint32)
    b = np.array([3, 1, 2**32 - 1, 9], np.uint32)
    pairs = split_codes(pair_codes(a, b))
    assert pairs.tolist() == [[3, 5], [1, 2**32 - 1], [0, 2**32 - 1], [9, 9]]
