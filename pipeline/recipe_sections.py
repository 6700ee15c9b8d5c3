"""Sections of a recipe: which pixels, what of whole objects, what is written, what it may use."""

from __future__ import annotations

import math
import re
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pipeline.lengths import InUm, Length, Lengths
from pipeline.sources.file_names import Files
from pipeline.sources.parts import Layout
from pipeline.sources.seen import Projection, Seen
from pipeline.validation import Channels


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


def _sides(given: object) -> object:
    sides = given if isinstance(given, list | tuple) else []
    plain = [one for one in sides if isinstance(one, int | float) and not isinstance(one, bool)]
    if len(sides) not in (2, 3) or [one for one in plain if 0 < one < math.inf] != list(sides):
        raise ValueError(
            "must be two or three numbers above 0, those of y, x or of z, y, x, for example "
            f"[0.5, 0.5], not {given!r}"
        )
    return given


PixelSize = Annotated[
    tuple[Positive, Positive] | tuple[Positive, Positive, Positive], BeforeValidator(_sides)
]


class GridSection(Section):
    """Where fields lie, whatever files say: `columns` of them a row, in the order of their names.

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

    channels: Channels | None = Field(default=None, min_length=1)
    dims: Literal["2d", "3d"] = "2d"
    missing_chunks: Literal["error", "fill"] = "error"
    project: Projection | None = None
    z: Numbers | None = None
    t: Numbers | None = None
    pixel_size_um: PixelSize | None = None
    files: Files | None = None
    fields: Literal["apart", "stitched"] = "apart"
    grid: GridSection | None = None
    stage: StageSection = StageSection()

    @property
    def ndim(self) -> int:
        """Axes of a frame: 2 for planes, 3 for volumes."""
        return 2 if self.dims == "2d" else 3

    def seen(self) -> Seen:
        """What is seen of every image."""
        size = None if self.pixel_size_um is None else (None, *self.pixel_size_um)[-3:]
        by = self.channels[0] if self.channels and self.project == "best_focus" else 0
        return Seen(self.t or (), self.z or (), self.project, (), by, size)

    @model_validator(mode="after")
    def _layout_of_something(self) -> SourceSection:
        if self.layout is None and (self.grid is not None or self.stage != StageSection()):
            raise ValueError("grid and stage lay out stitched fields: add `fields: stitched`")
        if self.grid is not None and self.stage != StageSection():
            raise ValueError(
                "grid and stage both say how fields lie: leave out grid to put them where the "
                "stage was, or leave out stage"
            )
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
