"""Targets of heads: against scipy and scikit-image, and the same for a crop as for the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from skimage.segmentation import find_boundaries

from pipeline.training.geometry import straight
from pipeline.training.patches import cut_patch, grid_patches
from pipeline.training.targets import borders, distances, flows, middles

from .small_data import dataset, discs, recipe

OBJECTS = discs(5)[1].astype(np.int32)


def labelled(number: int) -> np.ndarray:
    found: np.ndarray = np.equal(OBJECTS, number)
    return found


def test_distances_are_those_of_each_object_by_itself() -> None:
    found = distances(OBJECTS, normalised=False)
    wanted = np.zeros(OBJECTS.shape)
    for k in np.unique(OBJECTS[OBJECTS > 0]):
        wanted += ndimage.distance_transform_edt(labelled(k))
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    for k, largest in enumerate(ndimage.maximum(wanted, OBJECTS, np.arange(1, 7)), start=1):
        own = labelled(k)
        if own.any():
            whole = distances(OBJECTS, normalised=True)[own]
            np.testing.assert_allclose(whole, wanted[own] / largest, rtol=1e-6)
            assert whole.max() == 1


def test_a_frames_end_is_no_edge_of_an_object() -> None:
    objects = np.ones((4, 9), np.int32)
    objects[:, 6:] = 0
    assert distances(objects, False)[0].tolist() == [6, 5, 4, 3, 2, 1, 0, 0, 0]
    assert distances(np.ones((3, 3), np.int32), True).tolist() == [[1, 1, 1]] * 3


def test_borders_are_inner_boundaries() -> None:
    found = borders(OBJECTS)
    wanted = np.where(OBJECTS > 0, 1 + find_boundaries(OBJECTS, mode="inner"), 0)
    assert np.array_equal(found, wanted)


def test_flows_are_unit_vectors_to_the_middle() -> None:
    middle = middles(OBJECTS)
    for k in np.unique(OBJECTS[OBJECTS > 0]):
        assert middle[k] == pytest.approx(ndimage.center_of_mass(labelled(k)), abs=1e-4)
    found = flows(OBJECTS, middle, straight([0, 0], OBJECTS.shape))
    length = np.sqrt((found**2).sum(0))
    assert not length[OBJECTS == 0].any()
    inside = length > 0
    assert inside[OBJECTS > 0].mean() > 0.98  # all but the middles themselves
    np.testing.assert_allclose(length[inside], 1, rtol=1e-5)
    y, x = np.argwhere(inside)[0]
    assert found[:, y, x] @ (middle[OBJECTS[y, x]] - (y, x)) > 0


def test_targets_of_plain_patches_are_crops_of_the_whole(data: Path) -> None:
    """Distances, borders and flows of a patch do not know where it was cut."""
    of = recipe()
    frame = dataset(data, of).train[0]
    assert frame.objects is not None
    whole = cut_patch(frame, straight([-1, -1], [n + 2 for n in frame.shape]), 1, "mirror")
    flow = flows(frame.objects, frame.middles, straight([0, 0], frame.shape))
    for patch in grid_patches(frame, (16, 16), 1, "mirror"):
        y, x = (int(axis.min()) for axis in patch.places.points)
        cut = slice(y, y + 16), slice(x, x + 16)
        assert patch.objects is not None
        inner = patch.inner(patch.objects)
        assert np.array_equal(inner, frame.objects[cut])
        assert np.array_equal(patch.inner(borders(patch.objects)), borders(frame.objects)[cut])
        assert np.array_equal(patch.image, whole.image[:, cut[0], cut[1]])
        assert np.array_equal(
            patch.maps["distance normalised"], distances(frame.objects, True)[cut]
        )
        np.testing.assert_allclose(
            flows(inner, patch.middles, patch.places), flow[:, cut[0], cut[1]], atol=1e-5
        )
