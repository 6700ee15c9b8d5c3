"""Outlines against the pixels they are drawn around, whatever the tiles."""

from __future__ import annotations

import numpy as np
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from shapely.geometry import MultiPolygon

from pipeline.kernels.configurations import corners_2d
from pipeline.outlines.polygons import polygons
from tests.measurements.given_labels import label_images

THOROUGH = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)


def corners(labels: np.ndarray, start: tuple[int, int], stop: tuple[int, int]) -> np.ndarray:
    """Corners that a tile of a plane finds: label, y, x, code."""
    around = np.pad(labels.astype(np.uint32), 1)
    window = around[start[0] : stop[0] + 2, start[1] : stop[1] + 2]
    last = tuple(int(a == b) for a, b in zip(stop, labels.shape, strict=True))
    found = corners_2d(np.ascontiguousarray(window[None]), (0, 1, 1), (0, *last))
    return found[:, [0, 2, 3, 4]] + [0, *start, 0]


def shape_of(found: np.ndarray) -> MultiPolygon:
    y, x, code = (np.ascontiguousarray(found[:, k]) for k in (1, 2, 3))
    parts = polygons(y, x, code)
    for part in parts:
        assert shapely.LinearRing(part[0]).is_ccw
        assert not any(shapely.LinearRing(hole).is_ccw for hole in part[1:])
    return MultiPolygon([(part[0], part[1:]) for part in parts])


@given(labels=label_images(2), side=st.integers(1, 12))
@THOROUGH
def test_polygons_are_valid_and_hold_the_objects_pixels(labels: np.ndarray, side: int) -> None:
    height, width = labels.shape
    whole = corners(labels, (0, 0), labels.shape)
    tiles = [
        corners(labels, (y, x), (min(y + side, height), min(x + side, width)))
        for y in range(0, height, side)
        for x in range(0, width, side)
    ]
    together = np.concatenate(tiles)
    together = together[np.lexsort(together.T[::-1])]
    assert np.array_equal(together, whole[np.lexsort(whole.T[::-1])])
    y, x = np.indices(labels.shape)
    for number in range(1, int(labels.max()) + 1):
        own = labels == number
        if not own.any():
            continue
        found = shape_of(together[together[:, 0] == number])
        assert found.is_valid, shapely.is_valid_reason(found)
        assert found.area == own.sum()
        inside = shapely.contains_xy(found, x.ravel() + 0.5, y.ravel() + 0.5)
        assert np.array_equal(inside.reshape(own.shape), own)
        assert len(found.geoms) == ndimage.label(own)[1]


def test_parts_within_holes_belong_to_no_hole() -> None:
    # A frame, a frame within its hole, and a pixel within that one's; one is a corner neighbour.
    labels = np.zeros((11, 11), np.uint8)
    for k in (0, 3):
        labels[k : 11 - k, k : 11 - k] = 1
        labels[k + 1 : 10 - k, k + 1 : 10 - k] = 0
    labels[5, 5] = labels[1, 1] = 1
    labels[4, 4] = 1
    found = shape_of(corners(labels, (0, 0), labels.shape))
    assert found.is_valid
    assert found.area == labels.sum()
    assert len(found.geoms) == 3


def test_large_coordinates_are_exact() -> None:
    # Images of some million px a side.
    far = corners(np.ones((2, 3)), (0, 0), (2, 3)) + np.array([0, 2**24, 2**24, 0])
    assert shape_of(far).area == 6
