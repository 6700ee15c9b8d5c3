"""Outlines as GeoJSON that QuPath reads: one feature an object and plane, written as a stream.

Coordinates are [x, y] in px from the image's corner, along the sides of pixels.
"""

from __future__ import annotations

import itertools
import json
import math
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.files import digest_of_file
from pipeline.job import ImageJob
from pipeline.measurements.bands import FamilyBands, Measured
from pipeline.measurements.rows import Rows
from pipeline.outlines.corners import Corners
from pipeline.outlines.polygons import polygons
from pipeline.storage import AnyPath
from pipeline.storage.folders import written_here
from pipeline.table_file import open_table

#: Of all objects, red, green, blue.
COLOR = [255, 200, 0]
#: Ids of features are made of it and of what a feature is of: the same in every run.
NAMESPACE = uuid.UUID("6f1f0d5e-6f0c-5d0b-9d0e-3a6c0f7e5b11")
#: Rows of the table that are read at once.
ROWS = 4096


def write_outlines(
    path: AnyPath, job: ImageJob, measured: Measured, home: NDArray[np.int64], table: AnyPath
) -> str:
    """Write a FeatureCollection of all objects of an image.

    Parameters
    ----------
    path : Path or StorePath
    job : ImageJob
    measured : callable
        Record of a tile that the measuring pass left.
    home : ndarray of shape (count + 1,), int64
        By label, the band of the object's first pixel.
    table : Path or StorePath
        Object table of the image, whose numbers become measurements.

    Returns
    -------
    str
        Digest of the file.
    """
    bands = job.grid.bands()
    corners = FamilyBands.of(job, Corners(), measured, bands, home)
    rows = _table_rows(table)
    features = (
        feature
        for band in range(len(bands))
        for feature in _features(job, corners.rows(band), rows)
    )
    with written_here(path) as here:
        with here.open("w", encoding="utf-8", newline="\n") as file:
            file.write('{"type": "FeatureCollection", "features": [')
            between = "\n"
            for feature in features:
                file.write(between + json.dumps(feature, allow_nan=False, ensure_ascii=False))
                between = ",\n"
            file.write("\n]}\n")
        with here.open("rb") as stream:
            return digest_of_file(stream)


def _table_rows(path: AnyPath) -> Iterator[dict[str, Any]]:
    file = pq.ParquetFile(open_table(path))
    for batch in file.iter_batches(batch_size=ROWS):
        yield from pa.Table.from_batches([batch]).to_pylist()


def _features(job: ImageJob, rows: Rows, table: Iterator[dict[str, Any]]) -> Iterator[Any]:
    label, z = rows["label"], rows["z"]
    if len(label) == 0:
        return
    heads = np.flatnonzero(np.diff(label, prepend=-1) | np.diff(z, prepend=-1))
    ends = np.append(heads[1:], len(label))
    # The table's order is that of first pixels, which need not be that of labels.
    for place in itertools.islice(table, len(np.unique(label))):
        first, last = np.searchsorted(label[heads], [place["label"], place["label"] + 1])
        for begin, end in zip(heads[first:last], ends[first:last], strict=True):
            own = [np.ascontiguousarray(rows[key][begin:end]) for key in ("y", "x", "code")]
            plane = int(place["z"] if "z" in place else z[begin])
            yield _feature(job, place, plane, polygons(*own))


def _feature(job: ImageJob, row: dict[str, Any], z: int, parts: list[Any]) -> dict[str, Any]:
    output = job.recipe.output
    name = f"{job.name}\0{job.recipe.label}\0{row['label']}\0{z}"
    kind = "Polygon" if len(parts) == 1 else "MultiPolygon"
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(NAMESPACE, name)),
        "geometry": {
            "type": kind,
            "coordinates": parts[0] if len(parts) == 1 else parts,
            "plane": {"c": -1, "z": z, "t": int(row["t"])},
        },
        "properties": {
            "objectType": output.outline_type,
            "name": str(row["label"]),
            "classification": {"name": job.recipe.label, "color": COLOR},
            "measurements": {key: value for key, value in row.items() if _is_measured(key, value)},
        },
    }


def _is_measured(key: str, value: object) -> bool:
    """Whether it is a number, and no place of the plane that the geometry tells already."""
    if key in ("t", "z") or isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)
