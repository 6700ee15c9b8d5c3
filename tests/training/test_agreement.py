"""Counts of matched objects, on images that can be counted by hand."""

from __future__ import annotations

import numpy as np

from pipeline.training.agreement import Agreement, agreement, class_overlaps


def test_counts_by_hand() -> None:
    truth = np.array([[1, 1, 1, 0, 2, 2, 0, 0, 3]])
    found = np.array([[7, 7, 0, 0, 5, 0, 0, 4, 0]])
    # 1 and 7 share 2 of 3; 2 and 5 share 1 of 2, which is a half.
    assert agreement(truth, found) == Agreement(2, 1, 1, 3, 7)
    assert agreement(truth, found).precision == 2 / 4
    assert agreement(truth, truth) == Agreement(3, 0, 0, 6, 6)


def test_empty_images_agree() -> None:
    empty = np.zeros((4, 4), np.uint32)
    assert agreement(empty, empty) == Agreement(0, 0, 0, 0, 0)
    assert agreement(empty, empty).precision == 1
    assert agreement(empty, empty).foreground_iou == 1
    assert agreement(empty, empty + 1).precision == 0


def test_unknown_pixels_do_not_count_for_classes() -> None:
    truth, found = np.array([0, 0, 1, 1, -1]), np.array([0, 1, 1, 1, 0])
    shared, either = class_overlaps(truth, found, 2)
    assert shared.tolist() == [1, 2]
    assert either.tolist() == [2, 3]
