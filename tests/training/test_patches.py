"""Patches: a step and an index decide; nothing else does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.training.patches import Patches, grid_patches, produced
from pipeline.training.recipe import TrainingRecipe

from .small_data import dataset, discs, recipe, save, write_pairs

VARIED = {"zoom": [0.7, 1.4], "rotation_deg": 20, "elastic_px": 1.5, "blur_px": 1, "noise": 0.1}


def patches(data: Path, of: TrainingRecipe) -> Patches:
    return Patches(dataset(data, of).train, of, 1, "mirror")


def test_a_step_and_an_index_decide(data: Path) -> None:
    of = recipe(augmentation=VARIED)
    first, second = patches(data, of), patches(data, of)
    for index in (1, 0):
        a, b = first.patch(5, index), second.patch(5, index)
        assert np.array_equal(a.image, b.image)
        assert np.array_equal(a.objects, b.objects)  # type: ignore[arg-type]
    assert not np.array_equal(first.patch(5, 0).image, first.patch(5, 1).image)
    assert not np.array_equal(first.patch(5, 0).image, first.patch(6, 0).image)
    other = patches(data, recipe(augmentation=VARIED, seed=1))
    assert not np.array_equal(first.patch(5, 0).image, other.patch(5, 0).image)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_neither_patches_nor_their_order(data: Path, threads: int) -> None:
    source = patches(data, recipe(augmentation=VARIED))
    with produced(source.batch, range(3, 12), threads) as batches:
        found = [one.image for batch in batches for one in batch]
    wanted = [source.patch(step, index).image for step in range(3, 12) for index in (0, 1)]
    assert len(found) == len(wanted)
    assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_an_error_of_a_patch_comes_out() -> None:
    def make(step: int) -> int:
        if step == 4:
            raise ValueError("step 4")
        return step

    with pytest.raises(ValueError, match="step 4"), produced(make, range(9), 2) as found:
        list(found)


def test_memory_limit_changes_nothing(data: Path) -> None:
    of = recipe()
    kept, mapped = dataset(data, of), dataset(data, of, memory=0)
    assert isinstance(mapped.train[0].pixels, np.memmap)
    assert not isinstance(kept.train[0].pixels, np.memmap)
    a, b = (Patches(one.train, of, 1, "mirror").patch(0, 0) for one in (kept, mapped))
    assert np.array_equal(a.image, b.image)
    assert np.array_equal(a.maps["distance normalised"], b.maps["distance normalised"])


def test_balanced_patches_hold_objects(tmp_path: Path) -> None:
    """A small object in a large empty image is seen in nearly every balanced patch."""
    data = write_pairs(tmp_path / "data", 0)
    for k in range(2):
        image, labels = np.zeros((400, 400), np.uint8), np.zeros((400, 400), np.uint16)
        labels[200:210, 300:310] = 1
        save(data / "images" / f"{k}.png", image + np.uint8(k))
        save(data / "labels" / f"{k}.png", labels)
    shares = {}
    for balance in ("objects", "uniform", "classes"):
        sampling = {"patch_px": 32, "batch": 2, "balance": balance, "share": 1.0}
        source = patches(data, recipe(sampling=sampling))
        seen = [source.patch(step, 0).objects.any() for step in range(200)]  # type: ignore[union-attr]
        shares[balance] = np.mean(seen)
    assert shares["objects"] == 1
    assert 0.4 < shares["classes"] < 0.6  # one of two classes
    assert shares["uniform"] < 0.05


def test_grid_patches_cover_a_frame(data: Path) -> None:
    frame = dataset(data, recipe()).train[0]
    count = np.zeros(frame.shape, int)
    for patch in grid_patches(frame, (32, 20), 1, "mirror"):
        y, x = patch.places.points.astype(int)
        count[y, x] += 1
    assert count.min() == 1


def test_objects_end_with_the_frame_where_nothing_is_mirrored(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "data", 2)
    of = recipe(sampling={"patch_px": 96, "batch": 1})
    source = Patches(dataset(data, of).train, of, 0, "empty")
    patch = source.patch(0, 0)
    assert patch.objects is not None
    inside = np.zeros((96, 96), bool)
    inside[24:72, 24:72] = True
    assert not patch.objects[~inside].any()
    assert patch.objects[inside].any()
    assert discs(0)[1].shape == (48, 48)
