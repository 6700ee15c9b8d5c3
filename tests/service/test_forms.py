"""The form of a recipe: it allows what recipes allow, and every field says what it means."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from flows.service.forms import fields_help, recipe_schema
from pipeline.labels_recipe import load_any_recipe, parse_any_recipe
from pipeline.methods.watershed import Watershed
from pipeline.recipe import load_recipe
from pipeline.recipe_file import shipped_recipes
from pipeline.recipe_sections import PostprocessSection
from pipeline.training.recipe import (
    load_training_recipe,
    parse_training_recipe,
    shipped_training_recipes,
)

CLASSICAL = [
    name
    for name in shipped_recipes()
    if "model:" not in (load_recipe.__globals__["find_recipe"](name)).read_text()
]


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_recipe_fits_its_own_form(name: str) -> None:
    recipe = load_any_recipe(name)
    schema, content = recipe_schema(recipe), recipe.model_dump(mode="json")
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(content, schema)
    # What comes back from the form is the recipe.
    assert parse_any_recipe(content, "form").identity() == recipe.identity()


@pytest.mark.parametrize(
    "change",
    [
        {"min_distance_px": -1},
        {"min_distance_px": 201},
        {"smooth_px": "much"},
        {"landscape": "hills"},
        {"no_such_field": 1},
        {"markers": {"from": "h_minima", "h": 0}},
        {"foreground": {"method": "threshold", "foreground": {"classes": 1}}},
    ],
)
def test_bounds_are_those_of_recipes(change: dict[str, Any]) -> None:
    recipe = load_recipe("nuclei")
    content = recipe.model_dump(mode="json")
    content["segment"] |= change
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, recipe_schema(recipe))


def test_the_values_of_the_recipe_are_the_defaults() -> None:
    recipe = load_recipe("nuclei")
    properties = recipe_schema(recipe)["properties"]
    assert {name: part["default"] for name, part in properties.items()} == recipe.model_dump(
        mode="json"
    )


def test_fields_say_what_their_docstrings_say() -> None:
    told = fields_help(Watershed)
    assert told["lines"] == "Leave a line of background between objects."
    assert told["connectivity"] == "4 or 8 in 2D; 6, 18 or 26 in 3D; by default 8 and 26."
    assert told["masked"] == "False floods every finite pixel."
    both = fields_help(PostprocessSection)
    assert both["min_size_px"] == both["max_size_px"]


def test_nearly_all_fields_of_the_main_recipe_have_help() -> None:
    schema = recipe_schema(load_recipe("nuclei"))
    parts = [schema, *(schema["definitions"][name] for name in ("Watershed", "PostprocessSection"))]
    without = [
        name
        for part in parts
        for name, content in part["properties"].items()
        if not content.get("description") and "$ref" not in content
    ]
    assert set(without) <= {"label", "description", "preprocess", "merge", "method"}


@pytest.mark.parametrize("name", shipped_training_recipes())
def test_a_training_recipe_fits_its_own_form(name: str) -> None:
    recipe = load_training_recipe(name)
    schema, content = recipe_schema(recipe), recipe.model_dump(mode="json")
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(content, schema)
    assert parse_training_recipe(content, "form").identity() == recipe.identity()
    assert all("description" in field for field in schema["properties"].values())
