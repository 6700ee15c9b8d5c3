"""Points marked in an image.

Three kinds of files:

* a table with the columns y and x, and z and t where the image has them (px);
* napari's points: index, axis-0, axis-1, ..., the image's axes in their order (px);
* GeoJSON as QuPath exports it: points and multipoints [x, y] in px from the image's corner, with
  `plane: {z, t}` where they are not in the first.

A point in the table or from napari lies in the pixel whose middle is nearest; in GeoJSON 0 to 1 is
the first pixel.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Container, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.annotations.csv_table import CsvTable
from pipeline.companions import Companion
from pipeline.errors import MethodError
from pipeline.image import ImageInfo
from pipeline.storage import path_of

Points = NDArray[np.int64]


@functools.lru_cache(maxsize=16)
def read_points(companion: Companion, info: ImageInfo, image: str) -> Points:
    """Read the points of an image.

    Parameters
    ----------
    companion : Companion
    info : ImageInfo
        Of the image.
    image : str
        Its name, for messages.

    Returns
    -------
    ndarray of shape (n, 4), int64
        (t, z, y, x) in px, in the order of the file, each pixel once; not to be written to.

    Raises
    ------
    MethodError
        If the file is damaged, or a point lies outside the image.
    """
    if path_of(companion.path).suffix.lower() == ".csv":
        found = list(_from_table(CsvTable.read(companion.path, image), info))
    else:
        found = list(_from_geojson(companion.path, image))
    points = np.array(found, np.int64).reshape(-1, 4)
    limit = np.array([info.shape[i] for i in (0, 2, 3, 4)])
    outside = np.flatnonzero(((points < 0) | (points >= limit)).any(axis=1))
    if len(outside):
        place = ", ".join(map(str, points[outside[0]].tolist()))
        raise MethodError(
            image,
            f"point {outside[0] + 1} of {companion.path} is at (t, z, y, x) = ({place}), outside "
            f"the image of {', '.join(map(str, limit.tolist()))} px",
            "Correct the file; positions are in pixels, from 0.",
        )
    _, first = np.unique(points, axis=0, return_index=True)
    points = points[np.sort(first)]
    points.flags.writeable = False
    return points


def point_pixels(companion: Companion, info: ImageInfo, image: str) -> NDArray[np.int64]:
    """Linear index, among all frames of planes, of each point of `read_points`."""
    points = read_points(companion, info, image)
    shape = tuple(info.shape[i] for i in (0, 2, 3, 4))
    flat: NDArray[np.int64] = np.ravel_multi_index(tuple(points.T), shape).astype(np.int64)
    return flat


def _from_table(table: CsvTable, info: ImageInfo) -> Iterator[list[int]]:
    names = point_columns(table, info)
    for row in range(len(table.rows)):
        yield [
            math.floor(table.number(row, names[axis]) + 0.5) if axis in names else 0
            for axis in "tzyx"
        ]


def point_columns(table: CsvTable, info: ImageInfo) -> dict[str, str]:
    """Which column holds which axis: y, x, ... or napari's axis-0, axis-1, ...

    Raises
    ------
    MethodError
        If the table has neither, or not the axes along which the image is longer than 1 px.
    """
    napari = [name for name in table.columns if name.startswith("axis-")]
    if napari:
        axes = info.axes.replace("c", "")
        if len(napari) not in (2, len(axes)):
            raise MethodError(
                table.image,
                f"{table.path} has {len(napari)} axes, the image has {axes}",
                "Save the layer with the axes of the image, or with y and x only.",
            )
        names = dict(zip(axes[-len(napari) :], napari, strict=True))
    else:
        table.require(("y", "x"))
        names = {axis: axis for axis in "tzyx" if axis in table.columns}
    require_frames(table, info, names)
    return names


def require_frames(table: CsvTable, info: ImageInfo, axes: Container[str]) -> None:
    """Refuse a table that does not say in which of several frames its rows lie.

    Raises
    ------
    MethodError
    """
    for axis, n in zip("tz", (info.shape[0], info.shape[2]), strict=True):
        if n > 1 and axis not in axes:
            raise MethodError(
                table.image,
                f"{table.path} does not say {axis}, and the image has {n} of them",
                f"Add a column {axis}.",
            )


def _from_geojson(path: str, image: str) -> Iterator[list[int]]:
    for feature in geojson_features(path, image):
        geometry = feature["geometry"]
        kind, places = geometry.get("type"), geometry.get("coordinates", [])
        if kind not in ("Point", "MultiPoint"):
            continue
        plane = geometry.get("plane", {})
        try:
            for x, y, *_ in [places] if kind == "Point" else places:
                yield [
                    int(plane.get("t", 0)),
                    int(plane.get("z", 0)),
                    math.floor(float(y)),
                    math.floor(float(x)),
                ]
        except (TypeError, ValueError) as error:
            raise MethodError(image, f"{path} has a point that is no pair of numbers") from error


def geojson_features(path: str, image: str) -> list[dict[str, Any]]:
    """The features of a GeoJSON file that have a geometry.

    Raises
    ------
    MethodError
        If it is no GeoJSON.
    """
    try:
        content = json.loads(path_of(path).read_text(encoding="utf-8"))
        features = content["features"] if isinstance(content, dict) else content
        return [f for f in features if isinstance(f["geometry"], dict)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MethodError(
            image, f"{path} is no GeoJSON collection of features ({error})"
        ) from error
