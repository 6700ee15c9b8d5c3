"""The end of a run: one object table, run.json and the report."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flows.request import Request
from pipeline import __version__
from pipeline.files import digest
from pipeline.manifest import Manifest
from pipeline.run_folder import RunFolder
from pipeline.table_file import TableFile

#: Libraries whose version can change what comes out.
LIBRARIES = (
    "numpy",
    "scipy",
    "scikit-image",
    "numba",
    "connected-components-3d",
    "tifffile",
    "imagecodecs",
    "zarr",
    "dask",
    "distributed",
    "prefect",
)


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
    schemas = {pq.read_schema(path).remove_metadata() for path in paths}
    if not schemas:
        return 0
    ordered = sorted(schemas, key=lambda schema: (len(schema), str(schema)))
    schema = pa.unify_schemas(ordered, promote_options="permissive")
    partial = folder.hidden / "objects.parquet.partial"
    rows = 0
    with TableFile(partial, schema) as file:
        for path in paths:
            table = pq.read_table(path)
            rows += len(table)
            file.add(_with_all_columns(table, schema))
    partial.replace(folder.objects)
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
    published = [row for row in manifest.images() if row.status == "published"]
    counts = manifest.counts()
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
            "objects": sum(row.details["objects"] for row in published),
            "pixels": sum(row.details["pixels"] for row in published),
        },
        "certificate": certificate(manifest),
        "timings": dict(timings),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in LIBRARIES},
        },
        "machine": {"system": platform.platform(), "byte_order": np.dtype("<u4").byteorder},
    }


def certificate(manifest: Manifest) -> dict[str, Any]:
    """What the run says of "tiled equals untiled", over all its published images."""
    published = [row for row in manifest.images() if row.status == "published"]
    details = [row.details["certificate"] for row in published]
    inexact = [row.name for row in published if not row.details["certificate"].get("exact")]
    return {
        "statement": "Labels equal those of one tile that holds the whole image, bit for bit.",
        "exact": bool(published) and not inexact,
        "images_exact": len(published) - len(inexact),
        "images_with_a_bound": inexact[:100],
        "rules": sorted({str(item.get("rule", "")) for item in details}),
        "labels_digest": digest(*(f"{row.name}\0{row.digest}\0".encode() for row in published)),
    }
