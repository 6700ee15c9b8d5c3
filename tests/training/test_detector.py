"""Detectors: boxes and masks of patches, losses in both modes, a training to its end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.training.detector import DetectorTrainee
from pipeline.training.loop import train
from pipeline.training.patches import Patches
from pipeline.training.state import begin
from pipeline.training.trainee import trainee_of

from .small_data import dataset, recipe, training

pytest.importorskip("torchvision")

DETECTOR = {
    "architecture": "mask_rcnn",
    "arguments": {
        "backbone": "resnet18",
        "backbone_width": 4,
        "anchor_px": [8, 16, 32, 64, 128],
        "width": 8,
        "head_width": 16,
    },
    "heads": [{"head": "objects", "names": ["disc"]}],
    "sampling": {"patch_px": 64, "batch": 2},
}


def test_targets_are_boxes_and_masks_of_objects(data: Path) -> None:
    of = recipe(**DETECTOR)
    trainee = trainee_of(of)
    assert isinstance(trainee, DetectorTrainee)
    patches = Patches(dataset(data, of).train, of, trainee.margin_px, trainee.outside).batch(0)
    for patch, found in zip(patches, trainee.batch(patches).targets, strict=True):
        assert patch.objects is not None
        sizes = np.bincount(patch.objects.ravel())
        numbers = [k for k in range(1, len(sizes)) if sizes[k] >= 12]
        assert len(found["masks"]) == len(numbers) > 0
        assert found["labels"].tolist() == [1] * len(numbers)
        for k, mask, box in zip(numbers, found["masks"], found["boxes"], strict=True):
            assert np.array_equal(mask.numpy() > 0, patch.objects == k)
            y, x = np.nonzero(patch.objects == k)
            assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]


def test_objects_are_what_most_of_their_pixels_are(data: Path) -> None:
    of = recipe(**{**DETECTOR, "heads": [{"head": "objects", "names": ["a", "b"]}]})
    trainee = DetectorTrainee(of)
    patch = Patches(dataset(data, of).train, of, 0, "empty").patch(0, 0)
    assert patch.objects is not None
    classes = np.where(patch.objects % 2 == 0, 2, 1).astype(np.int16) * (patch.objects > 0)
    given = type(patch)(**{**vars(patch), "classes": classes.astype(np.int16)})
    labels = trainee.batch([given]).targets[0]["labels"].tolist()
    sizes = np.bincount(patch.objects.ravel())
    assert labels == [2 - k % 2 for k in range(1, len(sizes)) if sizes[k] >= 12]


def test_losses_are_told_in_eval_mode_and_change_no_norm(data: Path) -> None:
    of = recipe(**DETECTOR)
    trainee = DetectorTrainee(of)
    network = begin(of, torch.device("cpu")).network.eval()
    trainee.prepare(network)
    patches = Patches(dataset(data, of).train, of, 0, "empty")
    before = {k: v.clone() for k, v in network.state_dict().items()}
    found = trainee.losses(network, trainee.batch(patches.batch(0)), torch.device("cpu"))
    assert set(found) == {
        f"objects {x}" for x in ("classifier", "box_reg", "mask", "objectness", "rpn_box_reg")
    }
    assert not network.training
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_a_detector_is_trained_continued_and_scored(data: Path, tmp_path: Path) -> None:
    """Its samplers draw from torch's generator, which is seeded anew for each step."""
    from .test_loop import stopping_at, weights

    of = recipe(**DETECTOR, steps=4)
    state = train(training(data, tmp_path / "a", of))
    assert state.step == 4
    assert "validation_ap50" in state.history[-1]
    train(training(data, tmp_path / "b", of, stopped=stopping_at(2)))
    train(training(data, tmp_path / "b", of))
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
