"""Things over stuff: the two parts put together, and the same whatever the tiles."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nets.models import OBJECTS, tiny_model

from pipeline.conformance import check_conformance, check_image
from pipeline.errors import MethodError, RecipeError
from pipeline.methods.base import Method
from pipeline.recipe import parse_recipe
from pipeline.trial import Cut, Result, run_untiled

STUFF = {
    "head": "classes",
    "names": ["void", "cell", "rim", "matrix", "fat"],
    "background": "void",
    "things": ["cell"],
}
PARTS = ("stuff", "things")
#: Numbers in the table: two things, then stuff.
RIM, MATRIX, FAT = 3, 4, 5


@functools.cache
def models() -> tuple[str, str]:
    torch.set_num_threads(1)
    stuff = tiny_model(heads=[STUFF], seed=18)
    things = tiny_model("mask_rcnn", heads=[OBJECTS], normalisation={"kind": "mean_std"})
    return stuff, things


def stuff(**own: Any) -> dict[str, Any]:
    return {"method": "network", "model": models()[0], "block_px": 32, **own}


def things(**own: Any) -> dict[str, Any]:
    return {
        "method": "mask_rcnn",
        "model": models()[1],
        "score": 0.55,
        "proposal_score": 0.5,
        "overlap": 0.1,
        "block_px": 64,
        "object_px": 70,
        "context_px": 4,
        **own,
    }


def recipe(**own: Any) -> dict[str, Any]:
    return {"segment": {"method": "panoptic", "stuff": stuff(), "things": things(), **own}}


def image_of(*shape: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (*shape[:-2], *(-(-n // 9) for n in shape[-2:])))
    fine = np.kron(coarse, np.ones((9, 9), int))[..., : shape[-2], : shape[-1]]
    return np.clip(fine + generator.integers(-20, 21, fine.shape), 0, 255).astype(np.uint8)


def labels_of(segment: dict[str, Any], image: np.ndarray, folder: Path) -> np.ndarray:
    return run_untiled(parse_recipe({"segment": segment}, "r"), image, folder).labels[0]


def test_it_is_its_parts_put_together_and_tiled_is_untiled(tmp_path: Path) -> None:
    image = image_of(130, 150)
    cuts = [Cut((100, 37), 2, 3)]
    found = check_image(parse_recipe(recipe(), "recipe"), image, cuts, tmp_path)
    assert isinstance(found, Result)
    objects = labels_of(things(), image, tmp_path)[0]
    classes = labels_of(stuff(output="classes"), image, tmp_path)[0]
    expected = np.where(objects > 0, objects, 0).astype(np.int64)
    for number in (3, 4, 5):
        expected[(objects == 0) & (classes == number)] = 10**6 + number
    labels = found.labels[0, 0]
    pairs = np.unique(np.stack([labels.ravel(), expected.ravel()]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]
    assert np.array_equal(labels == 0, expected == 0)
    # Things and every kind of stuff occur, and so do pixels of neither.
    table = found.table.to_pydict()
    is_thing = np.array(table["is_thing"], bool)
    assert is_thing.sum() == objects.max() > 3
    assert sorted(np.array(table["class_id"])[~is_thing]) == [RIM, MATRIX, FAT]
    assert set(np.array(table["class_id"])[is_thing]) <= {1, 2}
    names = dict(pairs.T.tolist())
    for label, kind, thing in zip(
        table["label"], table["class_id"], table["is_thing"], strict=True
    ):
        assert thing == (names[label] < 10**6)
        assert thing or names[label] - 10**6 == kind
    assert (labels == 0).any()


def test_the_table_and_the_certificate(tmp_path: Path) -> None:
    found = run_untiled(parse_recipe(recipe(), "r"), image_of(70, 90), tmp_path)
    table = found.table
    assert [str(table[name].type) for name in ("class_id", "is_thing", "score")] == [
        "int32",
        "uint8",
        "float",
    ]
    is_thing, score = (table[name].to_numpy() for name in ("is_thing", "score"))
    assert np.isnan(score[is_thing == 0]).all()
    assert (score[is_thing == 1] > 0.55).all()
    assert found.certificate["classes"] == ["round", "long", "rim", "matrix", "fat"]
    assert found.certificate["stuff"]["epsilon"] < 1e-3
    assert found.certificate["things"]["blocks_looked_at_again"] == 0


def test_stuff_is_one_segment_a_frame(tmp_path: Path) -> None:
    stack = np.stack([image_of(60, 70, seed=seed) for seed in (1, 2)])
    found = check_image(parse_recipe(recipe(), "recipe"), stack, [Cut(33, 2)], tmp_path)
    assert isinstance(found, Result)
    table = found.table.to_pydict()
    for frame, plane in enumerate(found.labels[0]):
        here = np.unique(plane[plane > 0])
        kinds = [table["class_id"][label - 1] for label in here if not table["is_thing"][label - 1]]
        assert len(kinds) == len(set(kinds)) > 0, frame
    assert not set(np.unique(found.labels[0, 0])) & set(np.unique(found.labels[0, 1])) - {0}


def test_smoothed_stuff(tmp_path: Path) -> None:
    smooth = recipe(stuff=stuff(smoothing={"iterations": 2}))
    found = check_image(parse_recipe(smooth, "r"), image_of(70, 60), [Cut(31, 1)], tmp_path)
    assert isinstance(found, Result)


def test_a_model_alone_is_a_section() -> None:
    named = dict(zip(PARTS, models(), strict=True))
    short = parse_recipe({"segment": {"method": "panoptic", **named}}, "r")
    long = {"stuff": stuff(block_px=None), "things": {"method": "mask_rcnn", "model": models()[1]}}
    assert short == parse_recipe({"segment": {"method": "panoptic", **long}}, "r")


def test_hard_images_are_taken_or_refused(tmp_path: Path) -> None:
    check_conformance(recipe(), [], sides=[33], orders=[1], folder=tmp_path)


def test_numbers_of_the_plan_are_those_of_both(tmp_path: Path) -> None:
    segment = parse_recipe(recipe(), "r").segment
    assert isinstance(segment, Method)
    assert segment.wants_gpu()
    assert segment.least_passes() == 2 + 4  # survey, infer; survey, detect, suppress, paste
    assert segment.halo_px() == 0
    assert not segment.is_dataset_wide()


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"stuff": {"method": "threshold"}}, "stuff"),
        ({"stuff": "things"}, "tells nothing of pixels; use it by `method: mask_rcnn`"),
        ({"things": "stuff"}, "finds no objects; use it by `method: network`"),
        ({"stuff": {"output": "classes"}}, "all classes are stuff but the background"),
        ({"stuff": {"heads": [{"head": "border"}]}}, "tells no class that is stuff"),
    ],
)
def test_what_does_not_fit_is_refused(own: dict[str, Any], message: str) -> None:
    named = dict(zip(PARTS, models(), strict=True))
    for key, given in own.items():
        if isinstance(given, str):
            own = {key: named[given]}
        elif "output" in given:
            own = {key: stuff(**given)}
        elif "heads" in given:
            own = {key: tiny_model(**given)}
    with pytest.raises(RecipeError) as error:
        parse_recipe(recipe(**own), "r")
    assert message in str(error.value)


def test_both_models_need_the_channels(tmp_path: Path) -> None:
    two = tiny_model("mask_rcnn", heads=[OBJECTS], channels=["a", "b"])
    with pytest.raises(MethodError, match=r"1 selected channel, and the model .* takes 2"):
        run_untiled(parse_recipe(recipe(things=things(model=two)), "r"), image_of(40, 40), tmp_path)
