"""Recipes of several label images, of which a later one may be made from an earlier one.

    labels:
      nuclei: {segment: {method: watershed}}
      cells: {segment: {method: watershed, markers: {from: label, label: nuclei}}}

Each label has what a recipe of one label has, but for what concerns the image as a whole. Labels
are made in the order of the file, so what a label needs stands before it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from pydantic import Field, SerializeAsAny, ValidationError, field_validator

from pipeline.errors import RecipeError
from pipeline.graph.ways import AnyMerging
from pipeline.measurements.section import MeasureSection
from pipeline.methods.base import Method
from pipeline.names import nearest
from pipeline.output import FRAGMENTS
from pipeline.preprocess import Step
from pipeline.recipe import (
    Recipe,
    check_recipe,
    choose_method,
    explain,
    named_after,
    parse_recipe,
)
from pipeline.recipe_file import find_recipe, read_file
from pipeline.recipe_parts import OfParts
from pipeline.recipe_sections import (
    OutputSection,
    PostprocessSection,
    ResourcesSection,
    Section,
    SourceSection,
    plain_label,
)
from pipeline.validation import all_wrong


class LabelSource(Section):
    """`channels`: names or numbers of the channels that the method of this label sees; by default
    those of the recipe."""

    channels: tuple[int | str, ...] | None = Field(default=None, min_length=1)


class LabelSection(Section):
    """One of several labels."""

    source: LabelSource = LabelSource()
    preprocess: tuple[Step, ...] = ()
    segment: SerializeAsAny[Method]
    merge: AnyMerging | None = None
    postprocess: PostprocessSection = PostprocessSection()
    measure: MeasureSection = MeasureSection()

    _choose_method = field_validator("segment", mode="before")(choose_method)


class LabelsRecipe(OfParts, Section):
    """A recipe of several labels: what it is called, the labels in their order, and the image."""

    label: str = ""
    description: str = ""
    source: SourceSection = SourceSection()
    labels: dict[str, LabelSection] = Field(min_length=1)
    output: OutputSection = OutputSection()
    resources: ResourcesSection = ResourcesSection()

    @field_validator("labels")
    @classmethod
    def _plain_names(cls, value: dict[str, LabelSection]) -> dict[str, LabelSection]:
        for name, section in value.items():
            plain_label(name)
            fragments = f"{name}_{FRAGMENTS}"
            if section.merge is not None and fragments in value:
                raise ValueError(f"{fragments!r} is what the fragments of {name!r} are called")
        return value

    @property
    def parts(self) -> tuple[Recipe, ...]:
        return tuple(self._part(name, section) for name, section in self.labels.items())

    def _part(self, name: str, section: LabelSection) -> Recipe:
        channels = section.source.channels or self.source.channels
        return Recipe(
            label=name,
            source=self.source.model_copy(update={"channels": channels}),
            output=self.output,
            resources=self.resources,
            **{key: getattr(section, key) for key in LabelSection.model_fields if key != "source"},
        )

    @property
    def ndim(self) -> int:
        """Axes of a frame: 2 for planes, 3 for volumes."""
        return self.source.ndim

    def identity(self) -> str:
        """What decides the labels, as canonical JSON: everything but the resources."""
        return json.dumps([part.identity() for part in self.parts])


AnyRecipe: TypeAlias = Recipe | LabelsRecipe


def load_any_recipe(name_or_path: str) -> AnyRecipe:
    """Read a recipe of one label or of several; else as `pipeline.recipe.load_recipe`."""
    path = find_recipe(name_or_path)
    return parse_any_recipe(read_file(path), str(path), default_label=path.stem)


def parse_any_recipe(content: object, where: str, default_label: str = "labels") -> AnyRecipe:
    """Validate a recipe's content, of one label or of several; `where` names it in messages.

    Raises
    ------
    RecipeError
        With the file, the key, the value and what would be valid.
    """
    if not isinstance(content, dict) or "labels" not in content:
        return parse_recipe(content, where, default_label)
    try:
        recipe = LabelsRecipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(all_wrong(error, where, lambda item: _explain(item, content))) from error
    except RecipeError as error:
        raise RecipeError(f"{where}:\n  labels: {error}") from error
    for part in recipe.parts:
        check_recipe(part, f"{where}:\n  labels.{part.label}.")
    _check_order(recipe, where)
    _check_light(recipe, where)
    if not recipe.label:
        recipe = recipe.model_copy(update={"label": named_after(default_label)})
    return recipe


def _check_order(recipe: LabelsRecipe, where: str) -> None:
    """Refuse a label that is made from one that is not there before it."""
    before: list[Recipe] = []
    for part in recipe.parts:
        for used in part.segment.earlier_labels().values():
            known = {one.label: one for one in before}
            at = f"{where}:\n  labels.{part.label}.segment:"
            if used == part.label:
                raise RecipeError(f"{at} it is made from itself. Name a label that is before it.")
            if used not in recipe.labels:
                names = list(known)
                listed = ", ".join(names) or "none"
                raise RecipeError(
                    f"{at} there is no label {used!r}{nearest(used, names)}. Before it: {listed}."
                )
            if used not in known:
                raise RecipeError(
                    f"{at} the label {used!r} is made after it. Labels are made in the order of "
                    "the file; put it before, and without needing this one."
                )
            if known[used].segment.classes():
                raise RecipeError(
                    f"{at} the label {used!r} is a map of classes, and objects are needed. Make "
                    "objects of it: `output: labels`."
                )
        before.append(part)


def _check_light(recipe: LabelsRecipe, where: str) -> None:
    """Refuse two ways to estimate one camera's flat field."""
    found = {
        part.label: step
        for part in recipe.parts
        for step in part.preprocess
        if step.is_dataset_wide()
    }
    first = next(iter(found), "")
    for label, step in found.items():
        if step != found[first]:
            raise RecipeError(
                f"{where}:\n  labels.{label}.preprocess: flat_field is estimated in another way "
                f"than that of {first!r}. The light is the camera's: use the same step in both."
            )


def _explain(item: Any, content: Mapping[str, Any]) -> str:
    """One validation error as a line, with the label that it is of."""
    location = item["loc"]
    if len(location) < 3 or location[0] != "labels":
        return explain(item, content, LabelsRecipe)
    name, rest = location[1], location[2:]
    line = explain({**item, "loc": rest}, content["labels"][name], LabelSection)
    return f"labels.{name}.{line}"
