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
from pipeline.csv_table import write_csv
from pipeline.label_rows import label_rows, table_label
from pipeline.manifest import Manifest
from pipeline.plate_layout import is_listed, list_field
from pipeline.quality.flags import flag_planes
from pipeline.run_folder import RunFolder, site_in_plate
from pipeline.storage.folders import put_file
from pipeline.table_file import TableFile, open_table
from pipeline.wells import with_site, with_site_columns

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
EXTRAS = (
    "bioimage-cpp",
    "torch",
    "torchvision",
    "onnxruntime",
    "nd2",
    "liffile",
    "mrc",
    "openslide-bin",
    "bioio",
)


#: Column that tells the label images of one recipe apart.
LABEL_IMAGE = "label_image"


def gather_tables(folder: RunFolder, manifest: Manifest) -> int:
    """Write objects.parquet from the tables of all published images.

    Images may have different channels: a column that an image lacks is null. Where an image has
    several labels, the column `label_image` says which one a row is of.

    Returns
    -------
    int
        Number of rows.
    """
    images = [row for row in manifest.images() if row.status == "published"]
    tables = [
        (row, folder.table_path(one.name, table_label(one)), table_label(one))
        for row in images
        for one in label_rows(row)
    ]
    schemas = {
        _with_label(pq.read_schema(open_table(path)).remove_metadata(), label)
        for _, path, label in tables
    }
    if not schemas:
        return 0
    ordered = sorted(schemas, key=lambda schema: (len(schema), str(schema)))
    schema = with_site_columns(pa.unify_schemas(ordered, promote_options="permissive"), images)
    partial = folder.local / "objects.parquet.partial"
    rows = 0
    with TableFile(partial, schema) as file:
        for row, path, label in tables:
            table = pq.read_table(open_table(path))
            rows += len(table)
            if label:
                names = pa.array([label] * len(table), pa.string())
                table = table.add_column(1, LABEL_IMAGE, names)
            file.add(_with_all_columns(with_site(table, row), schema))
    put_file(partial, folder.objects)
    return rows


def _with_label(schema: pa.Schema, label: str) -> pa.Schema:
    """The columns of a label's table, with the one that names the label if there are several."""
    return schema.insert(1, pa.field(LABEL_IMAGE, pa.string())) if label else schema


def gather_quality(folder: RunFolder, manifest: Manifest) -> int:
    """Write images.parquet from the quality of all published images, with flags.

    Returns
    -------
    int
        Number of rows.
    """
    found = [row for row in manifest.images() if row.status == "published"]
    names = [row.name for row in found if row.details.get("quality_digest")]
    if not names:
        folder.quality.unlink(missing_ok=True)
        return 0
    tables = [pq.read_table(open_table(folder.quality_path(name))) for name in names]
    flagged = flag_planes(pa.concat_tables(tables))
    partial = folder.local / "images.parquet.partial"
    with TableFile(partial, flagged.schema) as file:
        file.add(flagged)
    put_file(partial, folder.quality)
    return len(flagged)


def write_csv_of(folder: RunFolder) -> str:
    """Write objects.csv from objects.parquet; returns its digest."""
    return write_csv(folder.objects_csv, folder.objects, folder.local / "objects.csv.partial")


def list_fields(folder: RunFolder, manifest: Manifest) -> None:
    """List all published fields in their plates again, should metadata have been damaged."""
    for row in manifest.images():
        site = site_in_plate(row) if row.status == "published" else None
        if site is not None:
            place = folder.image_path(row.name, site)
            if place.exists() and not is_listed(place):
                list_field(place, site)


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
    plates: set[str] = set()
    for row in manifest.images():
        if (site := row.details.get("site")) and site["row"]:
            plates.add(site["plate"])
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
        "plates": sorted(plates),
        "classes": request.recipe.class_names(),
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
