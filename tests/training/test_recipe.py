"""Training recipes: the shipped ones are valid, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.errors import RecipeError
from pipeline.recipe_file import shipped_recipes
from pipeline.training.recipe import (
    load_training_recipe,
    parse_training_recipe,
    shipped_training_recipes,
)

from .small_data import content, recipe

OBJECTS = {"head": "objects", "names": ["disc"]}


@pytest.mark.parametrize("name", shipped_training_recipes())
def test_shipped_recipes_are_valid(name: str) -> None:
    found = load_training_recipe(name)
    assert found.name == name
    assert found.card().architecture == found.architecture
    for side, stride in zip(found.patch_sides, (16,) * found.ndim, strict=True):
        assert side % stride == 0


def test_recipes_of_runs_and_of_trainings_do_not_mix() -> None:
    assert not [name for name in shipped_recipes() if name.startswith("training")]
    with pytest.raises(RecipeError, match="a recipe of runs; `tilewright train` needs one for"):
        load_training_recipe("configs/nuclei.yaml")
    with pytest.raises(RecipeError, match=r"did you mean 'small-unet'\?"):
        load_training_recipe("small-unett")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stepps": 3}, "stepps: unknown key (did you mean 'steps'?). Valid keys: architecture,"),
        ({"sampling": {"pach_px": 3}}, "sampling.pach_px: unknown key (did you mean 'patch_px'?)"),
        ({"steps": 0}, "steps: "),
        ({"losses": {"flow": [{"loss": "l1"}]}}, "'flow' is none of the heads (border, distance)"),
        ({"losses": {"border": [{"loss": "l1"}]}}, "l1 compares values; for border use"),
        ({"losses": {"distance": [{"loss": "dice"}]}}, "dice compares classes; for distance use"),
        (
            {"losses": {"border": [{"loss": "focal", "class_weights": [1, 2]}]}},
            "2 class_weights for the 3 classes of border",
        ),
        (
            {"losses": {"border": [{"loss": "dice"}, {"loss": "dice", "smooth": 2}]}},
            "border has dice twice; leave out one of them",
        ),
        ({"data": {"objects": None}}, "neither objects nor classes are given"),
        (
            {"data": {"objects": None, "classes": "c"}},
            "border is learned from objects, and data.objects is null",
        ),
        ({"sampling": {"patch_px": [32, 32, 32]}}, "patch_px: 3 for 2 axes"),
        ({"architecture": "onnx"}, "'onnx' is made by other programs"),
        ({"architecture": "mask_rcnn"}, "needs `ndim: 2` and the one head `objects`"),
        ({"heads": [OBJECTS]}, "`objects` is for mask_rcnn"),
        (
            {"heads": [{"head": "classes", "names": ["a", "b", "c"], "background": "a"}]},
            "For 3 classes name their images in data.classes",
        ),
        ({"heads": [{"head": "distance"}]}, "need a head `classes` or `border`"),
        ({"normalisation": {"kind": "fixed", "mean": [1, 2], "std": [1, 2]}}, "2 channels"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(**changes)
    assert message in str(caught.value)


def test_a_file_that_is_no_recipe(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("[1, 2")
    with pytest.raises(RecipeError, match="not valid YAML"):
        load_training_recipe(str(path))
    path.write_text("- 1")
    with pytest.raises(RecipeError, match="a recipe is a mapping of keys, not list"):
        load_training_recipe(str(path))
    with pytest.raises(RecipeError, match="there is no such recipe file"):
        load_training_recipe(str(tmp_path / "none.yaml"))


def test_words_do_not_decide_weights() -> None:
    plain = recipe()
    told = recipe(description="d", licence="MIT", compute={"threads": 1, "producers": 4})
    assert told.identity() == plain.identity()
    assert recipe(seed=1).identity() != plain.identity()
    assert recipe(compute={"threads": 2}).identity() != plain.identity()
    again = parse_training_recipe(yaml.safe_load(yaml.safe_dump(content())), "x", "tiny")
    assert again.identity() == plain.identity()


def test_patches_fit_the_networks_stride() -> None:
    from pipeline.training.trainee import trainee_of

    with pytest.raises(RecipeError, match="patch_px: 33, and sides of patches are multiples of"):
        trainee_of(recipe(sampling={"patch_px": 33}))
