"""Boxes against sets of pixels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.box import Box, grid


def pixels(box: Box) -> set[tuple[int, ...]]:
    return set(itertools.product(*(range(a, b) for a, b in zip(box.start, box.stop, strict=True))))


def boxes(smallest: int = 0) -> st.SearchStrategy[Box]:
    starts = st.tuples(st.integers(-3, 5), st.integers(-3, 5))
    sizes = st.tuples(st.integers(smallest, 5), st.integers(smallest, 5))
    return st.builds(
        lambda start, size: Box(start, tuple(a + n for a, n in zip(start, size, strict=True))),
        starts,
        sizes,
    )


@given(boxes(), boxes(1))
def test_relations_are_those_of_pixel_sets(a: Box, b: Box) -> None:
    assert a.size == len(pixels(a))
    assert pixels(a.intersect(b)) == pixels(a) & pixels(b)
    assert a.intersect(b).size == len(pixels(a) & pixels(b))
    assert pixels(a) | pixels(b) <= pixels(a.union(b))
    assert a.union(b).contains(a)
    if pixels(a):
        assert b.contains(a) == (pixels(a) <= pixels(b))


@given(boxes(1), st.integers(0, 4))
def test_growing_is_clipped_to_the_frame(box: Box, margin: int) -> None:
    frame = Box((-4, -2), (11, 9))
    inside = box.intersect(frame)
    grown = inside.grow(margin, frame)
    near = {
        p
        for p in pixels(frame)
        if any(max(abs(p[0] - q[0]), abs(p[1] - q[1])) <= margin for q in pixels(inside))
    }
    if inside.size:
        assert pixels(grown) == near


def test_margins_may_differ_by_axis() -> None:
    frame = Box.whole((10, 20))
    assert Box((4, 4), (5, 5)).grow((0, 2), frame) == Box((4, 2), (5, 7))


@given(boxes(1), boxes(1))
def test_a_box_is_cut_out_of_the_array_of_another(inner: Box, outer: Box) -> None:
    common = inner.intersect(outer)
    array = np.arange(outer.size).reshape(outer.shape)
    for value in array[common.within(outer)].ravel():
        place = np.unravel_index(value, outer.shape)
        assert tuple(p + a for p, a in zip(place, outer.start, strict=True)) in pixels(common)
    assert array[common.within(outer)].size == common.size


def test_counting_from_an_origin() -> None:
    assert Box((4, 7), (6, 9)).relative_to((3, 7)) == Box((1, 0), (3, 2))
    assert Box.whole((3, 4)).slices == (slice(0, 3), slice(0, 4))
    assert Box.whole((3, 4)).ndim == 2


def test_axes_must_agree() -> None:
    with pytest.raises(ValueError, match="zip"):
        Box((0, 0), (1, 1)).intersect(Box((0,), (1,)))


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)), st.tuples(st.integers(1, 5), st.integers(1, 5))
)
def test_a_grid_covers_every_pixel_once_in_raster_order(
    extent: tuple[int, int], side: tuple[int, int]
) -> None:
    cut = list(grid(extent, side))
    assert sorted(p for _, box in cut for p in pixels(box)) == sorted(pixels(Box.whole(extent)))
    assert sum(box.size for _, box in cut) == extent[0] * extent[1]
    assert [index for index, _ in cut] == sorted(index for index, _ in cut)
    assert all(n <= s for _, box in cut for n, s in zip(box.shape, side, strict=True))
