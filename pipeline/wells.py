"""wells.parquet: one row a well and acquisition, of all objects in its published fields.

    plate, well         path of the plate in the archive, name of the well: "B03"
    row, column         as the archive names them
    acquisition         its number, where a plate tells acquisitions apart; they are never summed
    label_image         which label, where the recipe makes several: then one row a well and label
    fields              images that are published, 1 for a stitched well
    fields_quarantined  images that are not, and whose objects are missing here
    objects             number of rows of objects.parquet; 0 is a well without any
    <column>_mean       of each measured column over the objects of the well, each object counting
    <column>_median     once; null without objects, values that are not finite left out
    <column>_std        with n - 1; null for less than two objects
    count_<class>       objects of each class (a detector's by number); null where there are none
    area_px_<class>     pixels of each class, where the labels are a map of classes

Not measured, so not summarised, are numbers and places: label, those of labels that objects were
made from, t, z, bounding boxes, centroids.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.label_keys import parent_column
from pipeline.label_rows import label_rows, table_label
from pipeline.manifest import ImageRow, Manifest
from pipeline.run_folder import RunFolder
from pipeline.sources.fields import natural
from pipeline.sources.parts import Site
from pipeline.storage.folders import put_file
from pipeline.table_file import open_table

#: What objects may have of their class: its name, or its number in a detector.
CLASSES = ("class", "class_id")
#: Columns of objects.parquet that tell where an image was taken.
SITES = ("plate", "well", "field", "acquisition")
#: The first columns of wells.parquet, where it has them.
ROWS = ("plate", "well", "row", "column", "acquisition", "label_image")
#: Columns of objects.parquet that tell an object from others, or where it is.
PLACES = ("image", *SITES, "label", "t", "z", "touches_border", *CLASSES)
PLACE_STARTS = ("bbox_", "centroid_", "detected_")

#: Plate, row and column of a well, and the acquisition.
_Well = tuple[str, str, str, int | None]


def with_site_columns(schema: pa.Schema, images: Iterable[ImageRow]) -> pa.Schema:
    """A schema of objects with what any image knows of its site, behind the image's name.

    Plate, well and field always, the acquisition only where some plate has several.
    """
    sites = [row.details["site"] for row in images if row.details.get("site")]
    if not sites:
        return schema
    told = any(site.get("acquisition") is not None for site in sites)
    for k, name in enumerate(SITES if told else SITES[:-1], start=1):
        schema = schema.insert(k, pa.field(name, _type(name)))
    return schema


def with_site(table: pa.Table, row: ImageRow) -> pa.Table:
    """Objects of one image with their plate, well, field, acquisition, where they are known."""
    content = row.details.get("site")
    if not content:
        return table
    site = Site(**content)
    values = (site.plate or None, site.well or None, site.field or None, site.acquisition)
    for k, (name, value) in enumerate(zip(SITES, values, strict=True), start=1):
        table = table.add_column(k, name, pa.array([value] * len(table), _type(name)))
    return table


def write_wells(folder: RunFolder, manifest: Manifest) -> None:
    """Write wells.parquet, if any image is of a well; one well's objects are in memory together."""
    wells: dict[_Well, list[ImageRow]] = {}
    for row in manifest.images():
        site = row.details.get("site")
        if site and site["row"]:
            key = (site["plate"], site["row"], site["column"], site.get("acquisition"))
            wells.setdefault(key, []).append(row)
    if not wells:
        folder.wells.unlink(missing_ok=True)
        return
    ordered = sorted(wells, key=_in_order)
    rows = [row for key in ordered for row in _summaries(folder, key, wells[key])]
    found = {name for row in rows for name in row}
    first = [name for name in ROWS if name in found]
    names = list(dict.fromkeys([*first, *(name for row in rows for name in row)]))
    columns = {name: pa.array([row.get(name) for row in rows], _type(name)) for name in names}
    partial = folder.local / "wells.parquet.partial"
    pq.write_table(pa.table(columns), partial, compression="zstd")
    put_file(partial, folder.wells)


def _in_order(well: _Well) -> tuple[object, ...]:
    plate, row, column, acquisition = well
    return plate, len(row), row, natural(column), -1 if acquisition is None else acquisition


def _type(name: str) -> pa.DataType:
    if name == "acquisition":
        return pa.int64()
    if name in SITES or name in ROWS:
        return pa.string()
    whole = name.startswith(("fields", "count_", "area_px_")) or name == "objects"
    statistic = name.endswith(("_mean", "_median", "_std"))
    return pa.int64() if whole and not statistic else pa.float64()


def _summaries(
    folder: RunFolder, key: _Well, images: Sequence[ImageRow]
) -> Iterator[dict[str, Any]]:
    """One row a label, each with its own columns."""
    plate, row, column, acquisition = key
    published = [image for image in images if image.status == "published"]
    place: dict[str, Any] = {"plate": plate, "well": f"{row}{column}", "row": row, "column": column}
    if acquisition is not None:
        place["acquisition"] = acquisition
    counts = {"fields": len(published), "fields_quarantined": len(images) - len(published)}
    labels: dict[str, list[ImageRow]] = {}
    for one in (one for image in published for one in label_rows(image)):
        labels.setdefault(table_label(one), []).append(one)
    for label, rows in labels.items() or [("", [])]:
        named = {"label_image": label} if label else {}
        yield place | named | counts | _summary(folder, rows)


def _summary(folder: RunFolder, images: Sequence[ImageRow]) -> dict[str, Any]:
    """What is found in the images of a well, for one label."""
    paths = [folder.table_path(image.name, table_label(image)) for image in images]
    tables = [pq.read_table(open_table(path)) for path in paths]
    classes: list[Any] = next((image.details["classes"] for image in images), [])
    found: dict[str, Any] = {"objects": 0 if classes else sum(map(len, tables))}
    if not tables:
        return found
    table = pa.concat_tables(tables, promote_options="permissive")
    if classes:
        return found | dict(_class_areas(table, [str(name) for name, *_ in classes]))
    for column in set(CLASSES) & set(table.column_names):
        counts = pc.value_counts(table[column].combine_chunks()).to_pylist()
        found |= {f"count_{item['values']}": item["counts"] for item in counts}
    numbers = {parent_column(part["label"]) for part in images[0].details.get("labels", ())}
    return found | dict(_statistics(table, numbers))


def _class_areas(table: pa.Table, names: Sequence[str]) -> Iterator[tuple[str, int]]:
    for name in names:
        chosen = table.filter(pc.equal(table["class"], name))
        yield f"area_px_{name}", pc.sum(chosen["area_px"]).as_py() or 0


def _statistics(table: pa.Table, numbers: Collection[str]) -> Iterator[tuple[str, float | None]]:
    """Of each measured column; `numbers` are columns that hold labels."""
    for field in table.schema:
        if field.name in PLACES or field.name in numbers:
            continue
        if field.name.startswith(PLACE_STARTS):
            continue
        if not (pa.types.is_integer(field.type) or pa.types.is_floating(field.type)):
            continue
        values = table[field.name].drop_null().to_numpy().astype(np.float64)
        values = values[np.isfinite(values)]
        n = len(values)
        yield f"{field.name}_mean", float(values.mean()) if n else None
        yield f"{field.name}_median", float(np.median(values)) if n else None
        yield f"{field.name}_std", float(values.std(ddof=1)) if n > 1 else None
