"""Recipes: what to do with an archive, as a YAML file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    field_validator,
    model_validator,
)

from pipeline.errors import RecipeError
from pipeline.flat_field.filter import FlatField
from pipeline.graph.rounds import merge_facts, merge_round
from pipeline.graph.ways import AnyMerging
from pipeline.image import ImageInfo
from pipeline.lengths import Frame, InUm, Length, Lengths, in_px
from pipeline.measurements.family import Gathering
from pipeline.measurements.section import MeasureSection
from pipeline.methods.base import Context, Method, Round, State
from pipeline.methods.registry import method_class
from pipeline.names import nearest
from pipeline.outlines.corners import Corners
from pipeline.preprocess import Step
from pipeline.recipe_file import find_file, read_file, recipes_folder
from pipeline.recipe_parts import OfParts
from pipeline.sources.file_names import Files
from pipeline.sources.parts import Layout
from pipeline.sources.seen import Projection, Seen
from pipeline.storage import AnyPath
from pipeline.validation import explained, valid_keys


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _ascending(value: object) -> object:
    numbers = [value] if isinstance(value, int) else value
    if isinstance(numbers, list | tuple) and list(numbers) != sorted(set(numbers)):
        raise ValueError(f"{list(numbers)} must be numbers from 0, each once, in ascending order")
    return numbers


#: Numbers of planes or times: one, or several.
Numbers = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_ascending), Field(min_length=1)
]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class GridSection(Section):
    """Where fields lie that do not say so: `columns` of them a row, in the order of their names.

    `overlap_px`: what neighbours share. `order`: "snake" turns every other row around.
    """

    columns: int = Field(ge=1)
    overlap_px: int = Field(default=0, ge=0)
    order: Literal["row", "snake"] = "row"


class StageSection(Section):
    """In which direction of the picture the stage's coordinates grow."""

    x: Literal["right", "left"] = "right"
    y: Literal["down", "up"] = "down"


class SourceSection(Section):
    """Which pixels are segmented.

    `channels`: names or numbers of the channels that the method sees; by default the image's only
    one. `dims`: "2d" takes every plane by itself, "3d" every volume. `missing_chunks`: what a
    chunk that an OME-Zarr does not have means: "error" (nobody can tell it from a lost one) or
    "fill" (the archive leaves out empty chunks). `project`: make one plane of every stack: "max",
    "min" or "mean" of each pixel, or "best_focus", the plane whose Laplacian varies most in the
    first of `channels`. `z`, `t`: numbers of the planes and times that are seen, from 0; by default
    all. `pixel_size_um`: size of a pixel, y, x or z, y, x, where the file does not say it, or not
    rightly. `files`: which files belong to one image.
    `fields`: whether the fields of a well are images of their own or one; `grid` and `stage` say
    how they lie.
    """

    channels: tuple[int | str, ...] | None = Field(default=None, min_length=1)
    dims: Literal["2d", "3d"] = "2d"
    missing_chunks: Literal["error", "fill"] = "error"
    project: Projection | None = None
    z: Numbers | None = None
    t: Numbers | None = None
    pixel_size_um: tuple[Positive, Positive] | tuple[Positive, Positive, Positive] | None = None
    files: Files | None = None
    fields: Literal["apart", "stitched"] = "apart"
    grid: GridSection | None = None
    stage: StageSection = StageSection()

    def seen(self) -> Seen:
        """What is seen of every image."""
        size = None if self.pixel_size_um is None else (None, *self.pixel_size_um)[-3:]
        by = self.channels[0] if self.channels and self.project == "best_focus" else 0
        return Seen(self.t or (), self.z or (), self.project, (), by, size)

    @model_validator(mode="after")
    def _layout_of_something(self) -> SourceSection:
        if self.layout is None and (self.grid is not None or self.stage != StageSection()):
            raise ValueError("grid and stage lay out stitched fields: add `fields: stitched`")
        return self

    @property
    def layout(self) -> Layout | None:
        """How fields are stitched; None where they stay apart."""
        if self.fields == "apart":
            return None
        grid = self.grid or GridSection(columns=1)
        return Layout(
            1 if self.stage.x == "right" else -1,
            1 if self.stage.y == "down" else -1,
            0 if self.grid is None else grid.columns,
            grid.overlap_px,
            grid.order == "snake",
        )


class PostprocessSection(InUm, Section):
    """What happens to whole objects, in this order: holes, border, size.

    `fill_holes`: give to an object all that it encloses. `clear_border`: drop objects that touch
    the frame's border. `min_size_px`, `max_size_px`: smallest and largest area or volume kept.
    `min_size_um2`, `max_size_um2`: the same for planes, in um2.
    `min_size_um3`, `max_size_um3`: the same for volumes, in um3.
    """

    fill_holes: bool = False
    clear_border: bool = False
    min_size_px: int = Field(default=1, ge=1)
    max_size_px: int | None = Field(default=None, ge=1)
    min_size_um2: float | None = Field(default=None, gt=0)
    max_size_um2: float | None = Field(default=None, gt=0)
    min_size_um3: float | None = Field(default=None, gt=0)
    max_size_um3: float | None = Field(default=None, gt=0)

    lengths: ClassVar[Lengths] = {
        "min_size_um2": Length("min_size_px", "least"),
        "max_size_um2": Length("max_size_px", "most"),
        "min_size_um3": Length("min_size_px", "least"),
        "max_size_um3": Length("max_size_px", "most"),
    }


class OutputSection(Section):
    """`image`: "copy" writes the image's pyramid beside the labels, "none" leaves it out,
    "in_place" adds the labels to the source OME-Zarr; by default "copy" for images that had to be
    converted and "none" for those that are OME-Zarr already.
    `pyramid`: write smaller copies of the labels (and image) for viewers. `fragments`: where
    regions are merged, publish what they were merged from too, as a label image of its own.
    `csv`: objects.csv beside objects.parquet. `table`: "anndata" writes each image's table beside
    its labels too. `outlines`: "geojson" writes outlines/<image>.geojson for QuPath, with objects
    that are each a `outline_type`.
    """

    image: Literal["copy", "none", "in_place"] | None = None
    pyramid: bool = True
    fragments: bool = True
    csv: bool = False
    table: Literal["anndata"] | None = None
    outlines: Literal["geojson"] | None = None
    outline_type: Literal["detection", "annotation"] = "detection"


class ResourcesSection(Section):
    """`tile_px`: side of a core; by default chosen from the memory. `memory_gib`: what all
    workers together may use; by default 70 % of what is free. `workers`: processes; by default
    one a core."""

    tile_px: int | None = Field(default=None, ge=16)
    memory_gib: float | None = Field(default=None, gt=0)
    workers: int | None = Field(default=None, ge=1)


def plain_label(value: str) -> str:
    """A label's name, if it can name a folder; raises ValueError if not."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", value):
        raise ValueError(
            f"{value!r} must be letters, digits, '_', '-' or '.', for it names a folder"
        )
    return value


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
    def ndim(self) -> int:
        """Axes of a frame: 2 for planes, 3 for volumes."""
        return 2 if self.source.dims == "2d" else 3

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
        lines = "\n".join(f"  {explain(item, content)}" for item in error.errors())
        raise RecipeError(f"{where}:\n{lines}") from error
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


def find_recipe(name_or_path: str) -> AnyPath:
    """The file behind a path, an address or a name such as "nuclei" or "methods/threshold"."""
    return find_file(name_or_path, recipes_folder(), shipped_recipes(), "recipe")


def shipped_recipes() -> list[str]:
    """Names of the shipped recipes."""
    folder = recipes_folder()
    names = (path.relative_to(folder).with_suffix("") for path in folder.rglob("*.yaml"))
    other = {"models", "training"}
    return sorted(name.as_posix() for name in names if name.parts[0] not in other)


def explain(item: Any, content: Mapping[str, Any], model: type[BaseModel] = Recipe) -> str:
    """One validation error as a line: key, what is wrong, what would be right."""
    location = [str(part) for part in item["loc"]]
    if item["type"] == "extra_forbidden":
        if location[0] == "segment":
            method = method_class(content["segment"]["method"])
            keys = valid_keys(method, location[1:-1])
        else:
            keys = valid_keys(model, location[:-1])
        shown = ".".join(location)
        known = f" Valid keys: {', '.join(keys)}." if keys else ""
        return f"{shown}: unknown key{nearest(location[-1], keys)}.{known}"
    return explained(item, "recipe")
