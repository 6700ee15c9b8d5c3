"""Files of shapes that people draw in an image.

Three kinds:

* a table of boxes, y_start, x_start, y_stop, x_stop, and z and t where the image has them (px):
  3 to 10 are the pixels 3 to 9;
* napari's shapes: index, shape-type, axis-0, axis-1, ..., the image's axes in their order (px, from
  the middle of the first pixel);
* GeoJSON as QuPath exports it: [x, y] in px from the image's corner, with `plane: {z, t}` where
  they are not in the first. Points are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.annotations.csv_table import CsvTable
from pipeline.annotations.points import geojson_features, point_columns, require_frames
from pipeline.companions import Companion
from pipeline.errors import MethodError
from pipeline.image import ImageInfo
from pipeline.storage import path_of

EDGES = ("y_start", "x_start", "y_stop", "x_stop")
#: What a GeoJSON feature is called that marks background.
BACKGROUND = "background"


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape of a file.

    Parameters
    ----------
    frame : tuple of int
        (t, z).
    vertices : ndarray of shape (k, 2), float64
        (y, x) in px, counted from the image's corner; finite.
    is_line, is_background : bool
        Whether it is a line or path, and whether its name says background.
    """

    frame: tuple[int, int]
    vertices: NDArray[np.float64]
    is_line: bool = False
    is_background: bool = False


def read_file(companion: Companion, info: ImageInfo, image: str) -> Iterator[Shape]:
    """Read the shapes of a file, in its order.

    Parameters
    ----------
    companion : Companion
    info : ImageInfo
        Of the image.
    image : str
        Its name, for messages.

    Raises
    ------
    MethodError
        If the file is damaged, or does not say what it must.
    """
    if path_of(companion.path).suffix.lower() != ".csv":
        return _from_geojson(companion.path, image)
    table = CsvTable.read(companion.path, image)
    read = _from_napari if "shape-type" in table.columns else _from_table
    return read(table, info)


def _from_table(table: CsvTable, info: ImageInfo) -> Iterator[Shape]:
    table.require(EDGES)
    require_frames(table, info, table.columns)
    for row in range(len(table.rows)):
        edges = np.array([table.number(row, name) for name in EDGES]).reshape(2, 2)
        if (edges[1] < edges[0]).any():
            raise MethodError(
                table.image,
                f"{table.path}, line {row + 2}: the box ends before it starts",
                "y_stop and x_stop are the first pixels behind the box.",
            )
        t, z = (_round(table.number(row, a)) if a in table.columns else 0 for a in "tz")
        yield Shape((t, z), edges)


def _from_napari(table: CsvTable, info: ImageInfo) -> Iterator[Shape]:
    table.require(("index", "shape-type"))
    names = point_columns(table, info)
    groups: dict[str, list[int]] = {}
    for row, cells in enumerate(table.rows):
        groups.setdefault(cells.get("index", ""), []).append(row)
    for number, rows in groups.items():
        found = {axis: [table.number(row, names[axis]) for row in rows] for axis in names}
        frames = [{_round(v) for v in found.get(axis, [0.0])} for axis in "tz"]
        if any(len(frame) > 1 for frame in frames):
            raise MethodError(
                table.image,
                f"{table.path}: the shape of index {number} lies in several planes",
                "Draw it in one plane.",
            )
        t, z = (frame.pop() for frame in frames)
        # napari counts from the middle of a pixel.
        vertices = np.stack([found["y"], found["x"]], axis=1) + 0.5
        kind = table.rows[rows[0]].get("shape-type", "")
        yield Shape((t, z), vertices, kind in ("path", "line"))


def _from_geojson(path: str, image: str) -> Iterator[Shape]:
    for number, feature in enumerate(geojson_features(path, image), 1):
        geometry = feature["geometry"]
        kind, places = geometry.get("type"), geometry.get("coordinates", [])
        depth = {"LineString": 0, "MultiLineString": 1, "Polygon": 1, "MultiPolygon": 2}.get(kind)
        if depth is None:
            continue
        try:
            plane = geometry.get("plane", {})
            frame = int(plane.get("t", 0)), int(plane.get("z", 0))
            parts = [np.array([(y, x) for x, y, *_ in p], float) for p in _flat(places, depth)]
            vertices = np.concatenate(parts)
            if not (len(vertices) and np.isfinite(vertices).all()):
                raise ValueError
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise MethodError(
                image, f"feature {number} of {path} has a vertex that is no pair of numbers"
            ) from error
        is_background = BACKGROUND in _names(feature)
        if is_background and "Polygon" in kind:
            raise MethodError(
                image,
                f"feature {number} of {path} is a {kind} of background",
                "Mark background by lines; a polygon stands for a box with an object.",
            )
        if "Polygon" in kind:
            yield Shape(frame, vertices)
        else:
            yield from (Shape(frame, part, True, is_background) for part in parts)


def _flat(places: Any, depth: int) -> list[Any]:
    """Lists of positions, out of lists nested `depth` deep."""
    return [places] if depth == 0 else [p for inner in places for p in _flat(inner, depth - 1)]


def _names(feature: dict[str, Any]) -> set[str]:
    properties = feature.get("properties") or {}
    kind = properties.get("classification")
    found = [properties.get("name"), kind.get("name") if isinstance(kind, dict) else kind]
    return {str(name).strip().lower() for name in found}


def _round(value: float) -> int:
    return int(np.floor(value + 0.5))
