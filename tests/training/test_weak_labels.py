"""Weak labels: what is read of them, what is learned from, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.morphology import skeletonize

from pipeline.annotations.shapes import Shapes
from pipeline.errors import DataError, RecipeError
from pipeline.training.agreement import agreement
from pipeline.training.loop import train
from pipeline.training.patches import Patches
from pipeline.training.recipe import TrainingRecipe
from pipeline.training.sections import GrabCutSection
from pipeline.training.weak.boxes import objects_in_boxes

from .small_data import content, dataset, discs, recipe, save, training

CLASSES = {"head": "classes", "names": ["background", "disc"], "background": "background"}
COUNT, JUDGING = 8, (6, 7)
PATCH = 48


def weak(kind: str, place: str, **changes: Any) -> TrainingRecipe:
    losses = [{"loss": "cross_entropy"}] + [{"loss": "tags"}] * (kind == "tags")
    given: dict[str, Any] = {
        "heads": [CLASSES],
        "losses": {"classes": losses},
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


def write_tags(folder: Path) -> None:
    save(folder / "images" / "empty.png", np.full((48, 48), 40, np.uint8))
    lines = ["image,classes", "empty,"]
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
    found = dataset(data, weak("boxes", "boxes", heads=heads, losses={}))
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
    write_tags(data)
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
    if kind == "tags":
        assert "classes seeds" not in state.history[2]  # of the third step, which is number 2
        assert "classes seeds" in state.history[3]
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
    assert (
        "  Correct these files; docs/weak-labels.md and docs/recipes.md tell their forms." in found
    )
    assert "  2: is 48 x 48 px, and its labels are 40 x 48 px" in found
    assert any("3.csv, line 2: axis-0 is 'a', not a number" in line for line in found)


def test_tags_that_cannot_be_true_are_named(data: Path) -> None:
    write_tags(data)
    table = data / "tags.csv"
    table.write_text(table.read_text().replace("3,disc", "3,disk"))
    small = {"patch_px": 32, "batch": 2}
    assert "  3: line 6: 'disk' is none of disc" in refusal(data, weak("tags", "tags.csv"))
    found = refusal(data, weak("tags", "tags.csv", sampling=small))
    assert any("  0: line 3 is of 48 x 48 px, and a patch has 32 x 32" in line for line in found)
    table.write_text("name,classes\n0,disc\n")
    assert "has no column 'image'" in refusal(data, weak("tags", "tags.csv"))[0]
    table.write_text("image,classes\n0,disc\n1,\n0,disc\n")
    assert "lines 2 and 4 are of the same part of '0'" in refusal(data, weak("tags", "tags.csv"))[0]
    table.write_text("image,classes\n0,disc,ring\n")
    assert (
        "line 2 has more cells than there are columns" in refusal(data, weak("tags", "tags.csv"))[0]
    )


def test_parts_of_images_are_tagged_and_normalised_as_the_whole(data: Path) -> None:
    write_tags(data)
    table = data / "tags.csv"
    rows = ["image,classes,y_start,x_start,y_stop,x_stop", "empty,,0,0,48,48"]
    for k in range(6):
        rows += [f"{k},disc,0,0,32,24", f"{k},,16,24,48,48"]
    table.write_text("\n".join(rows))
    small = {"patch_px": 48, "batch": 2}
    frames = dataset(data, weak("tags", "tags.csv", sampling=small)).train
    first, second = (frame for frame in frames if frame.image == "0")
    image = discs(0)[0]
    assert np.array_equal(first.pixels[0], image[:32, :24])
    assert np.array_equal(second.pixels[0], image[16:, 24:])
    low, high = np.percentile(image, [1, 99.8])
    for frame in (first, second):
        assert frame.terms[0][0] == pytest.approx(low)
        assert frame.terms[1][0] == pytest.approx(high - low, abs=1e-3)
    assert (first.classes == -1).all()
    assert (second.classes == 0).all()
    rows.append("0,disc,40,40,60,48")
    table.write_text("\n".join(rows))
    found = refusal(data, weak("tags", "tags.csv", sampling=small))
    assert "  0: line 15: no part of an image of 48 x 48 px" in found


def test_a_tag_is_of_one_frame(data: Path) -> None:
    import tifffile

    write_tags(data)
    (data / "images" / "0.png").unlink()
    tifffile.imwrite(
        data / "images" / "0.tif", np.zeros((3, 48, 48), np.uint8), metadata={"axes": "TYX"}
    )
    assert "  0: has 3 frames, and a tag is of one" in refusal(data, weak("tags", "tags.csv"))


def test_what_no_image_teaches_is_named(data: Path) -> None:
    """Masks that judge show both classes, and teach neither."""
    for k in set(range(COUNT)) - set(JUDGING):
        save(data / "scribbles" / f"{k}.png", 2 * (strokes(discs(k)[1]) == 2).astype(np.uint8))
    found = refusal(data, weak("scribbles", "scribbles"))
    assert "  class 'background': occurs in no image" in found


def test_napari_s_lines_have_a_second_file_for_background(data: Path) -> None:
    table = "index,shape-type,axis-0,axis-1\n0,line,{y},2\n0,line,{y},9\n"
    (data / "scribbles").mkdir()
    for k in range(6):
        (data / "scribbles" / f"{k}.csv").write_text(table.format(y=5))
        (data / "scribbles" / f"{k}.background.csv").write_text(table.format(y=20))
    frame = dataset(data, weak("scribbles", "scribbles")).train[0]
    wanted = np.full((48, 48), -1)
    wanted[5, 2:10], wanted[20, 2:10] = 1, 0
    np.testing.assert_array_equal(frame.classes, wanted)


def test_scribbles_of_three_classes_need_paint(data: Path) -> None:
    """Images in subfolders, masks of classes that judge, and numbers that say nothing."""
    names = ["background", "disc", "ring"]
    head = {"head": "classes", "names": names, "background": "background"}
    more: dict[str, Any] = {
        "heads": [head],
        "losses": {},
        "data": {"scribbles": "s", "objects": None, "classes": "labels", "ignore": 9},
    }
    (data / "images" / "0.png").rename(data / "images" / "1a.png")
    (data / "images" / "deep").mkdir()
    (data / "images" / "1a.png").rename(data / "images" / "deep" / "0.png")
    for k in range(COUNT):
        labels = discs(k)[1]
        painted = strokes(labels)
        painted[0, :5] = 3
        painted[1, :5] = 9
        if k in JUDGING:
            save(data / "labels" / f"{k}.png", np.minimum(labels, 2).astype(np.uint8))
        else:
            save(data / "s" / ("deep" if k == 0 else "") / f"{k}.png", painted)
    found = dataset(data, weak("scribbles", "s", **more))
    assert "deep/0" in found.train_names
    classes = found.train[0].classes
    assert classes is not None
    assert (classes[0, :5] == 2).all()
    assert (classes[1, :5] == -1).all()
    (data / "s" / "deep" / "0.png").unlink()
    line = {"geometry": {"type": "LineString", "coordinates": [[2, 5], [9, 5]]}, "properties": {}}
    (data / "s" / "deep" / "0.geojson").write_text(json.dumps([line]))
    said = refusal(data, weak("scribbles", "s", **more))
    assert any("holds lines, which tell background from one class" in row for row in said)


def boxes(*edges: tuple[int, int, int, int]) -> Shapes:
    nothing = np.zeros(0, np.int64)
    table = np.array([(0, *edge) for edge in edges], np.int64)
    return Shapes(table, nothing, nothing.astype(bool))


def test_boxes_that_overlap_and_boxes_without_contrast() -> None:
    pixels = np.full((1, 30, 40), 20, np.uint8)
    pixels[0, 5:25, 5:35] = 200  # two objects that touch at x = 20
    rule = GrabCutSection()
    found = objects_in_boxes(pixels, boxes((5, 5, 25, 22), (5, 18, 25, 35)), 0, rule)
    assert np.array_equal(found > 0, pixels[0] > 100)
    assert (found[5:25, 5:20] == 1).all()
    assert (found[5:25, 20:35] == 2).all()
    flat = np.full((1, 30, 40), 20, np.uint8)
    found = objects_in_boxes(flat, boxes((3, 4, 9, 8)), 0, rule)
    assert (found[3:9, 4:8] == 1).all()
    assert np.count_nonzero(found) == 24


def test_boxes_of_stacks_share_the_range_of_grey_values(data: Path) -> None:
    """An empty plane is not stretched to noise, and its lack of boxes says that it is empty."""
    import tifffile

    write_boxes(data)
    image, _ = discs(0)
    stack = np.stack([image.astype(np.uint16) * 200, np.full((48, 48), 8000, np.uint16)])
    (data / "images" / "0.png").unlink()
    tifffile.imwrite(data / "images" / "0.tif", stack, metadata={"axes": "TYX"})
    table = data / "boxes" / "0.csv"
    head, *rows = table.read_text().splitlines()
    table.write_text("\n".join([head + ",t", *(f"{row},0" for row in rows)]))
    found = [frame for frame in dataset(data, weak("boxes", "boxes")).train if frame.image == "0"]
    assert [frame.object_count for frame in found] == [len(rows), 0]


def test_boxes_that_cannot_be_cut_are_named(data: Path) -> None:
    write_boxes(data)
    (data / "boxes" / "1.csv").write_text("y_start,x_start,y_stop,x_stop\n")
    (data / "boxes" / "2.csv").write_text("y_start,x_start,y_stop,x_stop\n60,60,70,70\n")
    of = weak("boxes", "boxes", data={"boxes": "boxes", "grabcut": {"max_box_px": 400}})
    found = refusal(data, of)
    assert "  1: 1.csv holds no box" in found
    assert any(line.startswith("  2: box 1 of") and "outside the image" in line for line in found)
    assert any("px with its margin, the limit is 400 (data.grabcut.max_box_px)" in x for x in found)


def test_other_files_beside_drawings_are_left_alone(data: Path) -> None:
    write_boxes(data)
    (data / "boxes" / ".~lock.csv").write_text("x")
    (data / "boxes" / "old.zarr").mkdir()
    (data / "boxes" / "old.zarr" / "zarr.json").write_text("{}")
    (data / "boxes" / "3.csv").rename(data / "boxes" / "3.png.csv")  # named after the whole file
    only = {"boxes": "boxes", "only": ["[0-3]", "6"]}
    found = dataset(data, weak("boxes", "boxes", data=only))
    assert found.train_names == ["0", "1", "2", "3"]
    assert found.validation_names == ["6"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"boxes": "b", "tags": "t.csv"}}, "boxes and tags are given; use one kind"),
        (
            {"data": {"scribbles": "s"}},
            "border is learned from whole objects, which scribbles do not tell; use boxes",
        ),
        (
            {
                "data": {"tags": "t"},
                "heads": [CLASSES],
                "losses": {"classes": [{"loss": "tags"}]},
                "augmentation": {"zoom": [0.5, 2.0]},
            },
            "augmentation.zoom: moves parts of an image out of the patch",
        ),
        (
            {
                "data": {"tags": "t"},
                "heads": [CLASSES],
                "losses": {"classes": [{"loss": "tags"}]},
                "augmentation": {"rotation_deg": 5},
            },
            "augmentation.rotation_deg: moves parts of an image out",
        ),
        (
            {"data": {"tags": "t"}, "heads": [CLASSES], "losses": {}},
            "data.tags: losses.classes needs the term `tags`",
        ),
        (
            {"heads": [CLASSES], "losses": {"classes": [{"loss": "tags"}]}},
            "tags learns from tags, and data.tags is not given",
        ),
        (
            {
                "data": {"scribbles": "s"},
                "heads": [CLASSES],
                "losses": {"classes": [{"loss": "cross_entropy", "border": {}}]},
            },
            "border weights are of objects, which scribbles do not tell",
        ),
        (
            {"data": {"boxes": "b", "classes": "c"}},
            "images with masks judge what boxes teach, by objects or by classes",
        ),
        (
            {"losses": {"border": [{"loss": "dice"}, {"loss": "focal", "from_step": 8}]}},
            "focal joins at step 8 of 8",
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
