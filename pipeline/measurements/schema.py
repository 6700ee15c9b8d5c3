"""Every column that an object table can have, and the page that lists them.

`docs/tables.md` holds what `listing` gives; a test compares the two, and the columns of real tables
with both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pipeline.measurements.family import ColumnText, Family
from pipeline.measurements.section import FAMILIES

_PROPS = "skimage.measure.regionprops"
_ALL = "of the pixels' values; pixels that are not finite are left out"

#: What is measured without a pass of its own.
BASE = (
    ColumnText("image", "", "string", "path of the image in the archive, without suffix"),
    ColumnText("label", "", "uint64", "number of the object in the label image; of a class, its"),
    ColumnText("label_image", "", "string", "name of the label, where a recipe makes several"),
    ColumnText("{parent}_label", "", "uint64", "number of the object of another label it is of"),
    ColumnText("class", "", "string", "name of the class, in maps of classes"),
    ColumnText("t", "", "int32", "time point, from 0"),
    ColumnText("z", "", "int32", "2D: plane, from 0"),
    ColumnText("area_px", "px", "int64", "number of pixels (3D: of voxels)", f"{_PROPS}, area"),
    ColumnText("area_um2", "um^2", "float64", "2D: area_px times the size of a pixel"),
    ColumnText("volume_um3", "um^3", "float64", "3D: area_px times the size of a voxel"),
    ColumnText("bbox_{axis}_start_px", "px", "int64", "first pixel", f"{_PROPS}, bbox"),
    ColumnText("bbox_{axis}_stop_px", "px", "int64", "first pixel behind", f"{_PROPS}, bbox"),
    ColumnText(
        "centroid_{axis}_px",
        "px",
        "float64",
        "mean of the pixels' numbers: the middle of the first pixel is 0",
        f"{_PROPS}, centroid",
    ),
    ColumnText("centroid_{axis}_um", "um", "float64", "the same times the size of a pixel"),
    ColumnText(
        "axis_{rank}_px",
        "px",
        "float64",
        "major, minor (3D: middle) axis of the ellipse (ellipsoid) of the same second moments",
        f"{_PROPS}, axis_major_length; doi:10.1109/TIT.1962.1057692",
    ),
    ColumnText("axis_{rank}_um", "um", "float64", "the same of coordinates in um", "as above"),
    ColumnText(
        "orientation_rad",
        "rad",
        "float64",
        "2D: angle from the y axis to the major axis in px, -pi/2 to pi/2, counter-clockwise",
        f"{_PROPS}, orientation",
    ),
    ColumnText(
        "major_direction_{axis}",
        "1",
        "float64",
        "3D: unit vector of the major axis in px; its first part that is not 0 is positive",
    ),
    ColumnText(
        "equivalent_diameter_px",
        "px",
        "float64",
        "diameter of the circle (ball) of the same area (volume)",
        f"{_PROPS}, equivalent_diameter_area",
    ),
    ColumnText("equivalent_diameter_um", "um", "float64", "the same in um", "as above"),
    ColumnText(
        "eccentricity",
        "1",
        "float64",
        "2D: that of the ellipse in px, from 0 (circle) to 1 (line)",
        f"{_PROPS}, eccentricity",
    ),
    ColumnText("extent", "1", "float64", "area_px over that of the bounding box", _PROPS),
    ColumnText("touches_border", "", "bool", "whether it has a pixel at the frame's border"),
    ColumnText(
        "{fact}", "", "number", "what the method tells of an object, for example a detector's score"
    ),
    ColumnText("min_{channel}", "value", "float64", f"smallest {_ALL}", _PROPS),
    ColumnText("mean_{channel}", "value", "float64", f"mean {_ALL}", _PROPS),
    ColumnText("max_{channel}", "value", "float64", f"largest {_ALL}", _PROPS),
    ColumnText(
        "std_{channel}", "value", "float64", f"standard deviation of the population {_ALL}", _PROPS
    ),
    ColumnText(
        "sum_{channel}", "value", "float64", f"sum (integrated intensity) {_ALL}", "numpy.sum"
    ),
)


def all_texts() -> Iterator[ColumnText]:
    """Every column, in the order of tables."""
    yield from BASE
    for family in FAMILIES:
        yield from family.texts()


def text_of(column: str, texts: Sequence[ColumnText]) -> ColumnText | None:
    """What is said of a column of a table; the most exact name counts."""
    fitting = [text for text in texts if _pattern(text.name).fullmatch(column)]
    return max(fitting, key=lambda text: len(re.sub(r"\{.*?\}", "", text.name)), default=None)


def listing() -> str:
    """The tables of the page, in Markdown."""
    parts = ["### Always\n", _table(BASE)]
    for family in FAMILIES:
        parts += [f"\n### {_title(family)}\n", _table(family.texts())]
    return "\n".join(parts)


def _title(family: type[Family]) -> str:
    name = family.name
    keys = {"perimeter": "shape", "hull": "shape", "euler": "shape"}
    section = f"shape: [{name}]" if name in keys else _KEYS[name]
    return f"`measure: {{{section}}}`"


_KEYS = {
    "weighted": "weighted_centroid: true",
    "quantiles": "quantiles: [0.5, 0.95]",
    "ring": "ring_px: 5}` or `{ring_um: 2",
    "texture": "texture: {levels: 16, range: [0, 4096], distance_px: 1}",
    "neighbours": "neighbours: {within_px: 10}",
}


def _table(texts: Sequence[ColumnText]) -> str:
    lines = ["| column | unit | dtype | definition | as in |", "|---|---|---|---|---|"]
    for text in texts:
        cells = (f"`{text.name}`", text.unit, text.dtype, text.definition, text.source)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _pattern(name: str) -> re.Pattern[str]:
    parts = {
        "{axis}": "[zyx]",
        "{rank}": "major|middle|minor",
        "{channel}": ".+",
        "{fact}": ".+",
        "{parent}": ".+",
    }
    pattern = re.escape(name).replace(r"\{", "{").replace(r"\}", "}")
    for key, value in {**parts, "{percent}": r"[\d.]+", "{distance}": r"[\d.]+"}.items():
        pattern = pattern.replace(key, f"(?:{value})")
    return re.compile(pattern)
