"""Recipes: what to do with an archive, as a YAML file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, SerializeAsAny, ValidationError, field_validator

from pipeline.errors import RecipeError
from pipeline.flat_field.filter import FlatField
from pipeline.graph.rounds import merge_facts, merge_round
from pipeline.graph.ways import AnyMerging
from pipeline.image import ImageInfo
from pipeline.lengths import Frame, in_px
from pipeline.measurements.family import Gathering
from pipeline.measurements.section import MeasureSection
from pipeline.methods.base import Context, Method, Round, State
from pipeline.methods.registry import method_class
from pipeline.outlines.corners import Corners
from pipeline.preprocess import Step
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
from pipeline.validation import all_wrong, explained, unknown_key, valid_keys


def choose_method(value: Any) -> Any:
    """The method that a `segment:` section names, with its parameters."""
    if not isinstance(value, dict):
        return value
    if not isinstance(value.get("method"), str):
        raise RecipeError(
            "segment.method: a recipe names its method, for example `method: threshold`."
        )
    return method_class(value["method"]).model_validate(value)


class Recipe(OfParts, Section):
    """A whole recipe of one label image; `pipeline.labels_recipe` has those of several."""

    label: str = ""
    description: str = ""
    source: SourceSection = SourceSection()
    preprocess: tuple[Step, ...] = ()
    segment: SerializeAsAny[Method]
    merge: AnyMerging | None = None
    postprocess: PostprocessSection = PostprocessSection()
    measure: MeasureSection = MeasureSection()
    output: OutputSection = OutputSection()
    resources: ResourcesSection = ResourcesSection()

    _choose_method = field_validator("segment", mode="before")(choose_method)

    @field_validator("label")
    @classmethod
    def _plain_label(cls, value: str) -> str:
        return plain_label(value) if value else value

    @property
    def parts(self) -> tuple[Recipe, ...]:
        return (self,)

    def next_round(self, state: State, context: Context) -> Round | None:
        """The round that follows `state`: the filters', the method's, then those of merging."""
        for one in self.preprocess:
            if (before := one.next_round(state, context)) is not None:
                return before
        step = self.segment.next_round(state, context)
        if step is None and self.merge is not None:
            return merge_round(self.merge, state, context)
        return step

    def for_image(self, info: ImageInfo, name: str) -> Recipe:
        """The recipe for one image: lengths in px, and the method as `Method.for_image` has it."""
        recipe = in_px(self, Frame(name, info.pixel_size_um[-self.ndim :]))
        segment = recipe.segment.for_image(info, name)
        if segment is recipe.segment:
            return recipe
        return recipe.model_copy(update={"segment": segment})

    def check(self, context: Context) -> None:
        """Raise MethodError if the recipe does not apply to an image."""
        for step in self.preprocess:
            step.check(context)
        self.segment.check(context)
        if self.merge is not None:
            self.merge.check(context)
            self.merge.check_count(self.segment.expected_objects(context) or 0, context)

    def is_dataset_wide(self) -> bool:
        """Whether the first rounds look at all images together."""
        filters = any(step.is_dataset_wide() for step in self.preprocess)
        return filters or self.segment.is_dataset_wide()

    def extra_bytes(self, context: Context) -> int:
        """Memory that does not grow with the window."""
        filters = sum(step.extra_bytes(context) for step in self.preprocess)
        return filters + self.segment.extra_bytes(context)

    def certificate(self, state: State) -> dict[str, Any]:
        """What was proven or measured of "tiled equals untiled"."""
        found = self.segment.certificate(state)
        return found if self.merge is None else {**found, "merge": merge_facts(state)}

    def fact_columns(self) -> dict[str, str]:
        """What the method tells of whole objects, name -> dtype; of merged regions nothing."""
        return self.segment.fact_columns() if self.merge is None else {}

    def gathered(self) -> tuple[Gathering, ...]:
        """What is gathered of whole objects in a pass over their final labels."""
        outlines = (Corners(),) if self.output.outlines is not None else ()
        return (*self.measure.families(), *outlines)

    @property
    def parent_label(self) -> str | None:
        """The earlier label whose numbers the objects have, see `Method.parent_label`."""
        return self.segment.parent_label() if self.merge is None else None

    @property
    def probability_count(self) -> int:
        """Number of classes whose probability is written for every pixel."""
        return len(self.segment.classes()) if self.segment.has_probabilities() else 0

    @property
    def ndim(self) -> int:
        """Axes of a frame: 2 for planes, 3 for volumes."""
        return self.source.ndim

    def identity(self) -> str:
        """What decides the labels, as canonical JSON: everything but the resources."""
        # With this context, fields that name a file are written as what is in it.
        content = self.model_dump(
            mode="json", exclude={"resources", "description"}, context={"identity": True}
        )
        return json.dumps(content, sort_keys=True)


def load_recipe(name_or_path: str) -> Recipe:
    """Read a recipe from a YAML file, or by its name in configs/.

    Raises
    ------
    RecipeError
        With the file, the key, the value and what would be valid.
    """
    path = find_recipe(name_or_path)
    return parse_recipe(read_file(path), str(path), default_label=path.stem)


def parse_recipe(content: object, where: str, default_label: str = "labels") -> Recipe:
    """Validate a recipe's content; `where` names it in messages."""
    if not isinstance(content, dict):
        raise RecipeError(f"{where}: a recipe is a mapping of keys, not {type(content).__name__}.")
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(all_wrong(error, where, lambda item: explain(item, content))) from error
    except RecipeError as error:
        raise RecipeError(f"{where}:\n  {error}") from error
    check_recipe(recipe, f"{where}:\n  ")
    if used := recipe.segment.earlier_labels():
        raise RecipeError(
            f"{where}:\n  segment: it uses the label {next(iter(used.values()))!r}, and the recipe "
            "has one label only. List both under `labels:`."
        )
    if not recipe.label:
        recipe = recipe.model_copy(update={"label": named_after(default_label)})
    return recipe


def named_after(file_name: str) -> str:
    """A label's name from that of a file."""
    return re.sub(r"[^\w.-]", "_", file_name)


def check_recipe(recipe: Recipe, where: str) -> None:
    """Raise RecipeError if sections do not fit each other; `where` comes before the key."""
    if recipe.ndim not in recipe.segment.dims:
        raise RecipeError(
            f"{where}source.dims: {recipe.segment.__class__.__name__.lower()} is not defined "
            f"in {recipe.source.dims}."
        )
    if any(isinstance(step, FlatField) for step in recipe.preprocess[1:]):
        raise RecipeError(
            f"{where}:\n  preprocess: flat_field corrects what the camera saw, so it comes first, "
            "and once."
        )
    if recipe.segment.classes() and recipe.merge is not None:
        raise RecipeError(
            f"{where}merge: it acts on objects, and `segment` gives a map of classes. "
            "Make objects: `output: labels`."
        )
    if recipe.segment.classes() and recipe.postprocess != PostprocessSection():
        raise RecipeError(
            f"{where}postprocess: it acts on objects, and `segment` gives a map of classes. "
            "Leave it out, or make objects: `output: labels`."
        )
    if recipe.segment.classes() and recipe.gathered():
        raise RecipeError(
            f"{where}measure, output.outlines: shapes, rings, outlines and the like are of "
            "objects, and `segment` gives a map of classes. Leave them out, or make objects: "
            "`output: labels`."
        )


def explain(item: Any, content: Mapping[str, Any], model: type[BaseModel] = Recipe) -> str:
    """One validation error as a line: key, what is wrong, what would be right."""
    location = [str(part) for part in item["loc"]]
    if item["type"] == "extra_forbidden":
        if location[0] == "segment":
            method = method_class(content["segment"]["method"])
            keys = valid_keys(method, location[1:-1])
        else:
            keys = valid_keys(model, location[:-1])
        return unknown_key(location, keys)
    return explained(item, "recipe")
