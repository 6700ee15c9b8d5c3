"""The U-Net paper's weight map against its definition, over all pairs of objects."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from pipeline.training.losses.border_weights import REACH_SIGMAS, border_weights

from .small_data import discs


def test_the_map_is_the_papers_equation() -> None:
    objects = discs(3)[1].astype(np.int32)
    w0, sigma = 10.0, 5.0
    away = np.sort(
        [ndimage.distance_transform_edt(objects != k) for k in np.unique(objects[objects > 0])],
        axis=0,
    )
    together = away[0] + away[1]
    wanted = w0 * np.exp(-(together**2) / (2 * sigma**2))
    found = border_weights(objects, w0, sigma)
    near = together <= REACH_SIGMAS * sigma
    assert near.mean() > 0.3
    np.testing.assert_allclose(found[near], wanted[near], rtol=1e-5)
    assert not found[~near].any()
    assert wanted[~near].max(initial=0) < w0 / 2900


def test_one_object_alone_has_no_weights() -> None:
    objects = np.zeros((20, 30), np.int32)
    objects[5:9, 5:9] = 1
    assert not border_weights(objects, 10, 5).any()


def test_objects_that_touch_have_most_where_they_touch() -> None:
    objects = np.zeros((10, 40), np.int32)
    objects[:, 10:20], objects[:, 20:30] = 1, 2
    row = border_weights(objects, 10, 2)[5]
    assert row.argmax() in (19, 20)
    assert row[19] == row[20]
