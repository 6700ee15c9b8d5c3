"""Recipes of several labels: what they are read as, and what is refused."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from flows.service.forms import recipe_schema
from pipeline.errors import RecipeError
from pipeline.labels_recipe import LabelsRecipe, load_any_recipe, parse_any_recipe
from pipeline.recipe import Recipe, load_recipe, parse_recipe

THRESHOLD = {"segment": {"method": "threshold"}}
LIGHT = {"filter": "flat_field"}
MERGED = {**THRESHOLD, "merge": {"by": "threshold", "value": 1}}


def grown(from_label: str) -> dict[str, Any]:
    return {"segment": {"method": "watershed", "markers": {"from": "label", "label": from_label}}}


def labels(**sections: Any) -> LabelsRecipe:
    recipe = parse_any_recipe({"labels": sections}, "r.yaml", "name")
    assert isinstance(recipe, LabelsRecipe)
    return recipe


def test_parts_have_what_is_theirs_and_what_is_shared() -> None:
    content = {
        "source": {"dims": "3d", "channels": [1]},
        "labels": {"a": {"source": {"channels": ["x"]}, **THRESHOLD}, "b": grown("a")},
        "output": {"image": "none"},
    }
    recipe = parse_any_recipe(content, "r.yaml", "name")
    a, b = recipe.parts
    assert (recipe.label, a.label, b.label) == ("name", "a", "b")
    assert (a.source.channels, b.source.channels) == (("x",), (1,))
    assert a.ndim == b.ndim == recipe.ndim == 3
    assert a.output == b.output == recipe.output
    assert (a.parent_label, b.parent_label) == (None, "a")


def test_a_recipe_of_one_label_stays_what_it_is() -> None:
    recipe = load_any_recipe("nuclei")
    assert isinstance(recipe, Recipe)
    assert recipe == load_recipe("nuclei")
    assert recipe.parts == (recipe,)


def test_what_is_written_is_read_again() -> None:
    recipe = load_any_recipe("nuclei-cells")
    again = parse_any_recipe(recipe.model_dump(mode="json"), "recipe.yaml")
    assert again == recipe
    assert again.identity() == recipe.identity()


def test_the_identity_is_of_the_labels_and_their_order() -> None:
    a, b = THRESHOLD, {"segment": {"method": "threshold", "foreground": {"value": 3}}}
    assert labels(x=a, y=b).identity() != labels(y=b, x=a).identity()
    assert labels(x=a, y=b).identity() != labels(x=a, z=b).identity()
    described = parse_any_recipe({"description": "d", "labels": {"x": a, "y": b}}, "r.yaml")
    assert described.identity() == labels(x=a, y=b).identity()


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"cells": grown("nuclei")}, "there is no label 'nuclei'. Before it: none"),
        ({"nuclei": THRESHOLD, "cells": grown("nucleii")}, "did you mean 'nuclei'"),
        ({"cells": grown("cells")}, "made from itself"),
        ({"cells": grown("nuclei"), "nuclei": THRESHOLD}, "'nuclei' is made after it"),
        ({"a": grown("b"), "b": grown("a")}, "'b' is made after it"),
        ({"a/b": THRESHOLD}, "for it names a folder"),
        ({"a": {"segment": {}}}, "segment.method"),
        ({"a": {}}, "labels.a.segment: missing"),
        ({"a": {**THRESHOLD, "measrue": {}}}, "labels.a.measrue: unknown key"),
        ({"a": {"segment": {"method": "threshold", "vaule": 1}}}, "labels.a.segment.vaule"),
        ({"a": {**THRESHOLD, "output": {}}}, "labels.a.output: unknown key"),
        (
            {
                "a": {**THRESHOLD, "merge": {"by": "threshold", "value": 1}},
                "a_fragments": THRESHOLD,
            },
            "the fragments of 'a'",
        ),
        (
            {"a": {"segment": {"method": "threshold", "output": "classes"}}, "b": grown("a")},
            "map of classes",
        ),
        (
            {
                "a": {**THRESHOLD, "preprocess": [{**LIGHT, "estimate": "basic"}]},
                "b": {**THRESHOLD, "preprocess": [{**LIGHT, "estimate": "median"}]},
            },
            "labels.b.preprocess: flat_field is estimated in another way than that of 'a'",
        ),
        (
            {
                "a": THRESHOLD,
                "b": {"segment": {"method": "difference", "of": "a", "without": "a"}},
            },
            "nothing would be left",
        ),
        ({}, "labels"),
    ],
)
def test_what_does_not_fit_is_named(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=r"r\.yaml") as caught:
        labels(**sections)
    assert message.lower() in str(caught.value).lower()


def test_a_single_label_cannot_use_another() -> None:
    with pytest.raises(RecipeError, match="one label only"):
        parse_recipe(grown("nuclei"), "r.yaml")


def test_lines_would_cut_a_cell_from_its_nucleus() -> None:
    cells = grown("nuclei")
    cells["segment"]["lines"] = True
    with pytest.raises(RecipeError, match="from what they grew from"):
        labels(nuclei=THRESHOLD, cells=cells)


def test_the_service_has_a_form_for_each_of_its_labels() -> None:
    schema = recipe_schema(load_any_recipe("nuclei-cells"))
    assert list(schema["properties"]["labels"]["default"]) == ["nuclei", "cells", "cytoplasm"]
    content = load_any_recipe("nuclei-cells").model_dump(mode="json")
    jsonschema.validate(content, schema)
    content["labels"]["cells"]["segment"]["smooth_px"] = -1
    with pytest.raises(jsonschema.ValidationError, match="-1"):
        jsonschema.validate(content, schema)
