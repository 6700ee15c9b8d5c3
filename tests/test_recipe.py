"""Recipes: what is wrong is said with key, value and remedy; what is shipped is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import RecipeError
from pipeline.labels_recipe import load_any_recipe, parse_any_recipe
from pipeline.methods.base import Method
from pipeline.methods.registry import method_class, method_names
from pipeline.methods.watershed import Watershed
from pipeline.nets.architectures import ARCHITECTURES, DETECTORS
from pipeline.nets.reference import ModelReference
from pipeline.preprocess import Gaussian, Median
from pipeline.recipe import load_recipe, parse_recipe
from pipeline.recipe_file import find_recipe, shipped_recipes

THRESHOLD = {"segment": {"method": "threshold"}}


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_is_valid(name: str) -> None:
    recipe = load_any_recipe(name)
    assert recipe.label
    assert recipe.description.endswith(".")
    for part in recipe.parts:
        assert isinstance(part.segment, method_class(part.segment.method))
    # A recipe says again what it means; models are named by path, and in the identity by content.
    content = recipe.model_dump(mode="json")
    assert parse_any_recipe(content, name).identity() == recipe.identity()


def test_there_is_a_plain_recipe_for_every_method_and_architecture() -> None:
    shipped = set(shipped_recipes())
    assert "nuclei" in shipped
    covered = set()
    for name in shipped:
        if name.startswith("methods/"):
            used = parts_of(load_recipe(name).segment)
            # Called after its method or its network, and a variant after that: threshold-li.
            assert name.removeprefix("methods/").split("-")[0] in used
        covered |= {used for part in load_any_recipe(name).parts for used in parts_of(part.segment)}
    assert covered >= {*method_names(), *ARCHITECTURES, *DETECTORS}


def parts_of(segment: Method) -> set[str]:
    """Names of a method, of the methods within it, and of the architectures of their models."""
    found = {segment.method}
    for field in type(segment).model_fields:
        value = getattr(segment, field)
        if isinstance(value, Method):
            found |= parts_of(value)
        for model in value if type(value) is tuple else (value,):
            if isinstance(model, ModelReference):
                found.add(model.card.architecture)
    return found


def test_a_recipe_is_found_by_path_and_labelled_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "my cells.yaml"
    path.write_text("segment: {method: threshold}\n")
    assert load_recipe(str(path)).label == "my_cells"
    path.write_text("label: spots\nsegment: {method: threshold}\n")
    assert load_recipe(str(path)).label == "spots"
    assert find_recipe("nuclei").name == "nuclei.yaml"


def test_defaults_are_those_of_the_documentation() -> None:
    recipe = parse_recipe(THRESHOLD, "r")
    assert recipe.ndim == 2
    assert recipe.source.missing_chunks == "error"
    assert recipe.postprocess.min_size_px == 1
    assert recipe.postprocess.max_size_px is None
    assert not recipe.postprocess.fill_holes
    assert recipe.output.pyramid
    assert recipe.label == "labels"


def test_steps_and_methods_are_models_of_their_own() -> None:
    recipe = parse_recipe(
        {
            "preprocess": [
                {"filter": "gaussian", "sigma_px": 1.5},
                {"filter": "median", "radius_px": 2},
            ],
            "segment": {"method": "watershed", "min_distance_px": 9},
        },
        "r",
    )
    assert recipe.preprocess == (
        Gaussian(filter="gaussian", sigma_px=1.5),
        Median(filter="median", radius_px=2),
    )
    assert isinstance(recipe.segment, Watershed)
    assert recipe.segment.min_distance_px == 9


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"sgement": {}, **THRESHOLD}, r"sgement: unknown key \(did you mean 'segment'\?\)\."),
        (
            {"segment": {"method": "threshold", "conectivity": 8}},
            r"segment.*conectivity: unknown key \(did you mean 'connectivity'\?\)",
        ),
        (
            {**THRESHOLD, "postprocess": {"fill_hole": True}},
            r"postprocess\.fill_hole: unknown key \(did you mean 'fill_holes'\?\).*min_size_px",
        ),
        (
            {**THRESHOLD, "preprocess": [{"filter": "gaussian", "sigma": 1}]},
            r"preprocess\.0\.gaussian\.sigma: unknown key \(did you mean 'sigma_(px|um)'\?\)",
        ),
        (
            {"segment": {"method": "treshold"}},
            r"segment\.method: no method is called 'treshold' \(did you mean 'threshold'\?\)"
            r"\. Methods of this installation: .*threshold.*watershed",
        ),
        ({"segment": {"connectivity": 8}}, "a recipe names its method, for example"),
        ({"segment": {"method": 3}}, "a recipe names its method"),
        ({}, r"segment: missing\."),
        ({**THRESHOLD, "postprocess": {"min_size_px": 0}}, r"min_size_px: .*1 \(given: 0\)"),
        ({**THRESHOLD, "postprocess": {"fill_holes": "perhaps"}}, r"\(given: 'perhaps'\)"),
        ({**THRESHOLD, "source": {"dims": "4d"}}, r"source\.dims: .*'2d' or '3d' \(given: '4d'\)"),
        ({**THRESHOLD, "source": {"channels": []}}, r"source\.channels: .*at least 1 item"),
        ({**THRESHOLD, "resources": {"tile_px": 8}}, r"resources\.tile_px: .*16 \(given: 8\)"),
        ({**THRESHOLD, "resources": {"memory_gib": 0}}, r"resources\.memory_gib"),
        ({**THRESHOLD, "output": {"image": "both"}}, r"output\.image: .*'copy', 'none'"),
        ({**THRESHOLD, "label": "my cells"}, "'my cells' must be letters, digits"),
        ({**THRESHOLD, "label": "../up"}, "must be letters, digits"),
        ({**THRESHOLD, "preprocess": [{"filter": "gauss"}]}, "'gaussian', 'median', 'subtract"),
        ({**THRESHOLD, "preprocess": [{"filter": "gaussian", "sigma_px": 0}]}, r"sigma_px"),
        ({"segment": {"method": "threshold", "connectivity": 5}}, r"4, 8, 6, 18 or 26"),
        (
            {"segment": {"method": "threshold", "foreground": {"value": "ostu"}}},
            r"foreground\.value.*\(given: 'ostu'\)",
        ),
        (
            {"segment": {"method": "watershed", "masked": False}},
            r"there is no background to take distances to.*landscape: intensity",
        ),
        (["segment"], "a recipe is a mapping of keys, not list"),
        (None, "a recipe is a mapping of keys, not NoneType"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(content: object, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        parse_recipe(content, "cells.yaml")
    assert str(caught.value).startswith("cells.yaml")
    assert "pydantic" not in str(caught.value)


def test_all_errors_are_said_at_once() -> None:
    content = {**THRESHOLD, "postproces": {}, "source": {"dims": 2}}
    with pytest.raises(RecipeError) as caught:
        parse_recipe(content, "r")
    assert "postproces" in str(caught.value)
    assert "source.dims" in str(caught.value)


def test_broken_files_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("segment: {method: [")
    with pytest.raises(RecipeError, match=r"r\.yaml: not valid YAML: .*line 1"):
        load_recipe(str(path))
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match=r"r\.yaml: "):
        load_recipe(str(path))
    path.write_text("")
    with pytest.raises(RecipeError, match="not NoneType"):
        load_recipe(str(path))
    with pytest.raises(RecipeError, match=r"gone\.yaml: there is no such recipe file"):
        load_recipe(str(tmp_path / "gone.yaml"))
    with pytest.raises(RecipeError, match=r"did you mean 'nuclei'.*Shipped: .*methods/threshold"):
        load_recipe("nucleus")


def test_identity_is_what_decides_the_labels() -> None:
    plain = parse_recipe(THRESHOLD, "r")
    same = parse_recipe(
        {**THRESHOLD, "resources": {"tile_px": 64, "workers": 3}, "description": "other words"}, "r"
    )
    assert same.identity() == plain.identity()
    for other in (
        {"segment": {"method": "threshold", "connectivity": 4}},
        {**THRESHOLD, "source": {"dims": "3d"}},
        {**THRESHOLD, "postprocess": {"clear_border": True}},
        {**THRESHOLD, "preprocess": [{"filter": "median", "radius_px": 1}]},
    ):
        assert parse_recipe(other, "r").identity() != plain.identity()


def test_recipes_cannot_be_changed() -> None:
    recipe = parse_recipe(THRESHOLD, "r")
    with pytest.raises(ValueError, match="frozen"):
        recipe.label = "other"
    with pytest.raises(ValueError, match="frozen"):
        recipe.segment.connectivity = 4
