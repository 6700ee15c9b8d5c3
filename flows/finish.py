"""The end of a run: one object table, run.json and the report."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from xxhash import xxh3_128

from flows.request import Request
from pipeline import __version__
from pipeline.manifest import Manifest
from pipeline.run_folder import RunFolder
from pipeline.storage.folders import put_file
from pipeline.table_file import TableFile, open_table

#: Libraries whose version can change what comes out.
LIBRARIES = (
    "numpy",
    "scipy",
    "scikit-image",
    "scikit-learn",
    "opencv-python-headless",
    "numba",
    "connected-components-3d",
    "tifffile",
    "imagecodecs",
    "zarr",
    "dask",
    "distributed",
    "prefect",
)
#: The same, of extras that need not be installed.
EXTRAS = ("bioimage-cpp", "torch", "torchvision", "onnxruntime")


def gather_tables(folder: RunFolder, manifest: Manifest) -> int:
    """Write objects.parquet from the tables of all published images.

    Images may have different channels: a column that an image lacks is null.

    Returns
    -------
    int
        Number of rows.
    """
    names = [row.name for row in manifest.images() if row.status == "published"]
    paths = [folder.table_path(name) for name in names]
    schemas = {pq.read_schema(open_table(path)).remove_metadata() for path in paths}
    if not schemas:
        return 0
    ordered = sorted(schemas, key=lambda schema: (len(schema), str(schema)))
    schema = pa.unify_schemas(ordered, promote_options="permissive")
    partial = folder.local / "objects.parquet.partial"
    rows = 0
    with TableFile(partial, schema) as file:
        for path in paths:
            table = pq.read_table(open_table(path))
            rows += len(table)
            file.add(_with_all_columns(table, schema))
    put_file(partial, folder.objects)
    return rows


def _with_all_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        table[field.name].cast(field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def run_record(
    request: Request, manifest: Manifest, status: str, timings: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of run.json."""
    counts = manifest.counts()
    objects = pixels = 0
    for row in manifest.images():
        objects += row.details.get("objects", 0)
        pixels += row.details.get("pixels", 0)
    return {
        "tilewright": __version__,
        "plan": request.plan,
        "status": status,
        "recipe": request.recipe.model_dump(mode="json"),
        "archive": str(request.archive.absolute()),
        "counts": {
            "images": sum(counts.values()),
            "published": counts.get("published", 0),
            "quarantined": counts.get("quarantined", 0),
            "objects": objects,
            "pixels": pixels,
        },
        "classes": [one.name for one in request.recipe.segment.classes()],
        "certificate": certificate(manifest),
        "timings": dict(timings),
        "versions": {
            "python": platform.python_version(),
            **_versions(),
        },
        "machine": {"system": platform.platform(), "byte_order": np.dtype("<u4").byteorder},
    }


def _versions() -> dict[str, str]:
    found = {name: version(name) for name in LIBRARIES}
    for name in EXTRAS:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def certificate(manifest: Manifest) -> dict[str, Any]:
    """What the run says of "tiled equals untiled", over all its published images."""
    exact = 0
    bounded: list[str] = []
    rules: set[str] = set()
    labels = xxh3_128()
    for row in manifest.images():
        if row.status != "published":
            continue
        found = row.details["certificate"]
        rules.add(str(found.get("rule", "")))
        labels.update(f"{row.name}\0{row.digest}\0".encode())
        if found.get("exact"):
            exact += 1
        else:
            bounded.append(row.name)
    return {
        "statement": "Labels equal those of one tile that holds the whole image, bit for bit.",
        "exact": exact > 0 and not bounded,
        "images_exact": exact,
        "images_with_a_bound": bounded[:100],
        "rules": sorted(rules),
        "labels_digest": str(labels.hexdigest()),
    }
