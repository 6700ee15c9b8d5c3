"""Weak labels: what is read of them, what is learned from, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.morphology import skeletonize

from pipeline.errors import DataError, RecipeError
from pipeline.training.agreement import agreement
from pipeline.training.loop import train
from pipeline.training.patches import Patches
from pipeline.training.recipe import TrainingRecipe

from .small_data import content, dataset, discs, recipe, save, training

CLASSES = {"head": "classes", "names": ["background", "disc"], "background": "background"}
COUNT, JUDGING = 8, (6, 7)
PATCH = 48


def weak(kind: str, place: str, **changes: Any) -> TrainingRecipe:
    given: dict[str, Any] = {
        "heads": [CLASSES],
        "data": {kind: place},
        "sampling": {"patch_px": PATCH, "batch": 2},
        **changes,
    }
    return recipe(**given)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Eight images, two of them with masks."""
    folder = tmp_path / "data"
    for k in range(COUNT):
        image, labels = discs(k)
        save(folder / "images" / f"{k}.png", image)
        if k in JUDGING:
            save(folder / "labels" / f"{k}.png", labels)
    return folder


def strokes(labels: np.ndarray) -> np.ndarray:
    """A painted image: 2 along the middle of each disc, 1 along the middle of the background."""
    found = np.zeros(labels.shape, np.uint8)
    for number in np.unique(labels[labels > 0]):
        found[skeletonize(labels == number)] = 2
    found[skeletonize(labels == 0)] = 1
    return found


def write_painted(folder: Path) -> None:
    for k in set(range(COUNT)) - set(JUDGING):
        save(folder / "scribbles" / f"{k}.png", strokes(discs(k)[1]))


def write_boxes(folder: Path) -> None:
    (folder / "boxes").mkdir()
    for k in set(range(COUNT)) - set(JUDGING):
        labels = discs(k)[1]
        lines = ["y_start,x_start,y_stop,x_stop"]
        for number in np.unique(labels[labels > 0]):
            y, x = np.nonzero(labels == number)
            lines.append(f"{y.min()},{x.min()},{y.max() + 1},{x.max() + 1}")
        (folder / "boxes" / f"{k}.csv").write_text("\n".join(lines))


def write_tags(folder: Path, *more: str) -> None:
    lines = ["image,classes", *more]
    for k in set(range(COUNT)) - set(JUDGING):
        lines.append(f"{k},disc")
    (folder / "tags.csv").write_text("\n".join(lines))


def test_painted_scribbles_are_known_and_the_rest_is_not(data: Path) -> None:
    write_painted(data)
    found = dataset(data, weak("scribbles", "scribbles"))
    assert found.validation_names == [str(k) for k in JUDGING]
    assert found.train_names == [str(k) for k in range(6)]
    for frame in found.train:
        assert frame.objects is None
        assert frame.classes is not None
        painted = strokes(discs(int(frame.image))[1])
        np.testing.assert_array_equal(frame.classes, painted.astype(int) - 1)
    assert all(frame.objects is not None for frame in found.validation)


def test_lines_of_geojson_are_the_pixels_on_their_way(data: Path) -> None:
    (data / "scribbles").mkdir()
    for k in range(6):
        features = [
            {"geometry": {"type": "LineString", "coordinates": [[2, 5], [9, 5]]}, "properties": {}},
            {
                "geometry": {"type": "LineString", "coordinates": [[0, 20], [0, 30]]},
                "properties": {"classification": {"name": "Background"}},
            },
        ]
        (data / "scribbles" / f"{k}.geojson").write_text(json.dumps(features))
    frame = dataset(data, weak("scribbles", "scribbles")).train[0]
    wanted = np.full((48, 48), -1)
    wanted[5, 2:10] = 1
    wanted[20:31, 0] = 0
    np.testing.assert_array_equal(frame.classes, wanted)


def test_boxes_become_objects(data: Path) -> None:
    write_boxes(data)
    heads = [{"head": "border"}, {"head": "distance", "unit": "normalised"}]
    found = dataset(data, weak("boxes", "boxes", heads=heads))
    for frame in found.train:
        truth = discs(int(frame.image))[1]
        assert frame.objects is not None
        assert frame.object_count == len(np.unique(truth)) - 1
        assert agreement(truth, frame.objects).precision > 0.6
        # Nothing is outside of the boxes.
        around = np.zeros(truth.shape, bool)
        for number in np.unique(truth[truth > 0]):
            y, x = np.nonzero(truth == number)
            around[y.min() : y.max() + 1, x.min() : x.max() + 1] = True
        assert not frame.objects[~around].any()


def test_tags_are_the_image_s_and_no_class_is_background(data: Path) -> None:
    save(data / "images" / "empty.png", np.zeros((48, 48), np.uint8))
    write_tags(data, "empty,")
    of = weak("tags", "tags.csv")
    found = {frame.image: frame for frame in dataset(data, of).train}
    tags, classes = found["0"].tags, found["0"].classes
    assert tags is not None
    assert tags.tolist() == [-1, 1]
    assert (classes == -1).all()
    tags, classes = found["empty"].tags, found["empty"].classes
    assert tags is not None
    assert tags.tolist() == [-1, 0]
    assert (classes == 0).all()
    # Half of what is balanced shows a disc, though one image of seven shows none.
    patches = Patches(list(found.values()), of, 1, "mirror")
    shown = [patches.patch(step, 0).tags for step in range(200)]
    assert 60 < sum(int(one is not None and one[1] == 0) for one in shown) < 110


@pytest.mark.parametrize("kind", ["scribbles", "boxes", "tags"])
def test_training_on_them_is_reproducible_and_continues(
    data: Path, tmp_path: Path, kind: str
) -> None:
    from .test_loop import stopping_at, weights

    {"scribbles": write_painted, "boxes": write_boxes, "tags": write_tags}[kind](data)
    losses = {
        "scribbles": [{"loss": "cross_entropy"}, {"loss": "pairwise"}],
        "boxes": [{"loss": "cross_entropy"}],
        "tags": [{"loss": "tags"}, {"loss": "seeds", "from_step": 3}],
    }[kind]
    place = "tags.csv" if kind == "tags" else kind
    of = weak(kind, place, losses={"classes": losses})
    state = train(training(data, tmp_path / "a", of))
    assert state.step == 8
    assert set(state.history[-1]) >= {f"classes {term['loss']}" for term in losses}
    train(training(data, tmp_path / "b", of, stopped=stopping_at(4)))
    train(training(data, tmp_path / "b", of))
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


def test_scribbles_teach(data: Path, tmp_path: Path) -> None:
    """From strokes alone, most of the pixels of images with masks are right."""
    write_painted(data)
    of = weak(
        "scribbles",
        "scribbles",
        losses={"classes": [{"loss": "cross_entropy"}, {"loss": "pairwise", "weight": 0.5}]},
        steps=60,
        validation={"every_steps": 60},
        optimiser={"learning_rate": 0.02, "warmup_steps": 5, "average": 0.9},
    )
    last = train(training(data, tmp_path, of)).history[-1]
    assert last["validation_iou"] > 0.75


def refusal(folder: Path, of: TrainingRecipe) -> list[str]:
    with pytest.raises(DataError) as caught:
        dataset(folder, of)
    return str(caught.value).splitlines()


def test_what_is_missing_is_named(data: Path) -> None:
    of = weak("scribbles", "scribbles")
    assert refusal(data, of) == [
        f"{data}: there is no folder 'scribbles'. Make it, or name another in `data.scribbles`."
    ]
    write_painted(data)
    (data / "scribbles" / "2.png").unlink()
    save(data / "scribbles" / "other.png", strokes(discs(0)[1]))
    found = refusal(data, of)
    assert found[1:3] == [
        "  2: has neither scribbles in scribbles nor a mask in labels",
        "  other: is in scribbles, and not in images",
    ]
    (data / "scribbles" / "other.png").unlink()
    save(data / "scribbles" / "2.png", strokes(discs(2)[1]))
    for k in JUDGING:
        save(data / "scribbles" / f"{k}.png", strokes(discs(k)[1]))
        (data / "labels" / f"{k}.png").unlink()
    assert refusal(data, of) == [
        f"{data}: no image has a mask in labels. Annotate at least one in full: images with masks "
        "judge what is learned from the others."
    ]
    assert refusal(data, weak("tags", "tags.csv"))[0].endswith(
        "tags.csv: there is no such table of tags; the recipe names it."
    )


def test_what_is_wrong_in_them_is_named(data: Path) -> None:
    write_painted(data)
    spoiled = strokes(discs(0)[1])
    spoiled[0, 0] = 7
    save(data / "scribbles" / "0.png", spoiled)
    save(data / "scribbles" / "1.png", np.zeros((48, 48), np.uint8))
    save(data / "scribbles" / "2.png", np.ones((40, 48), np.uint8))
    (data / "scribbles" / "3.png").unlink()
    (data / "scribbles" / "3.csv").write_text("index,shape-type,axis-0,axis-1\n0,rectangle,a,2\n")
    found = refusal(data, weak("scribbles", "scribbles"))
    assert "  0: its scribbles hold 7, and the classes are 1 to 2" in found
    assert "  1: its scribbles mark no pixel" in found
    assert "  2: is 48 x 48 px, and its labels are 40 x 48 px" in found
    assert any("3.csv, line 2: axis-0 is 'a', not a number" in line for line in found)


def test_tags_that_cannot_be_true_are_named(data: Path) -> None:
    write_tags(data)
    table = data / "tags.csv"
    table.write_text(table.read_text().replace("3,disc", "3,disk"))
    small = {"patch_px": 32, "batch": 2}
    assert "  3: line 5: 'disk' is none of disc" in refusal(data, weak("tags", "tags.csv"))
    found = refusal(data, weak("tags", "tags.csv", sampling=small))
    assert "  0: is 48 x 48 px, and a patch 32 x 32: a tag is true of a whole image only" in found
    table.write_text("name,classes\n0,disc\n")
    assert "has no column 'image'" in refusal(data, weak("tags", "tags.csv"))[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"boxes": "b", "tags": "t.csv"}}, "boxes and tags are given; use one kind"),
        (
            {"data": {"scribbles": "s"}},
            "border is learned from whole objects, which scribbles do not tell; use boxes",
        ),
        (
            {"data": {"tags": "t"}, "heads": [CLASSES], "augmentation": {"zoom": [0.5, 2.0]}},
            "zoom: 2 cuts images, and a tag is true of a whole one; use at most 1",
        ),
        (
            {"data": {"tags": "t"}, "heads": [{**CLASSES, "background": None}]},
            "the head needs a background",
        ),
        (
            {"losses": {"border": [{"loss": "tags"}]}},
            "tags needs a head `classes` with a background",
        ),
        (
            {"losses": {"border": [{"loss": "dice", "from_step": 3}]}},
            "no term of border counts from the first step on",
        ),
    ],
)
def test_recipes_that_cannot_work_are_refused(changes: dict[str, Any], message: str) -> None:
    from pipeline.training.recipe import parse_training_recipe

    with pytest.raises(RecipeError) as caught:
        parse_training_recipe(content(**changes), "recipe")
    assert message in str(caught.value)
