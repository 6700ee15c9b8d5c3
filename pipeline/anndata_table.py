"""The object table as an AnnData group beside the labels, as SpatialData and ngio read it.

Numbers are X, float64, one variable a column of the table; what names an object is in obs. It is
written from the parquet file, some rows at a time, and needs no anndata.

References
----------
AnnData on disk 0.1.0, https://anndata.readthedocs.io/en/stable/fileformat-prose.html;
OME-NGFF tables, https://github.com/ome/ngff/pull/64
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr

from pipeline.files import digest, digest_of_file
from pipeline.storage import AnyPath
from pipeline.storage.folders import written_here
from pipeline.storage.reading import open_file
from pipeline.storage.zarr_store import zarr_place
from pipeline.table_file import open_table

#: Columns that name an object or say where it is from.
OBS = ("image", "label", "class", "t", "z", "touches_border")
#: Rows a chunk, and that are held in memory at once.
ROWS = 16384
INDEX = "_index"
REGION = "region"
INSTANCE = "label"
#: Mark of the groups that we wrote.
WRITER = "tilewright"


def write_anndata(path: AnyPath, table: AnyPath, label: str, zarr_format: Literal[2, 3]) -> str:
    """Write the group `tables/<label>` and list it in its parent.

    Parameters
    ----------
    path : Path or StorePath
        The group; its parent is the group of all tables.
    table : Path or StorePath
        Object table of one image.
    label : str
        Name of the label image.

    Returns
    -------
    str
        Digest of all that was written.
    """
    list_table(path, zarr_format)
    with written_here(path) as here:
        _write_group(here, pq.ParquetFile(open_table(table)), label, zarr_format)
        return digest_of_folder(here)


def _write_group(path: Path, file: pq.ParquetFile, label: str, zarr_format: Literal[2, 3]) -> None:
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    group.attrs.update(_attributes(label))
    schema, rows = file.schema_arrow, file.metadata.num_rows
    variables = [f.name for f in schema if f.name not in OBS]
    _mark(_array(group, "X", (rows, len(variables)), "float64"), "array", "0.2.0")
    names = [name for name in OBS if name in schema.names]
    obs = _frame(group, "obs", [REGION, *names])
    _categorical(obs, REGION, [label], rows)
    columns = {name: _column(obs, name, schema.field(name).type, rows) for name in names}
    columns[INDEX] = _strings(obs, INDEX, rows)
    _fill(group["X"], columns, file, variables)
    var = _frame(group, "var", [])
    _strings(var, INDEX, len(variables))[:] = np.array(variables, dtype=object)
    for empty in ("layers", "obsm", "varm", "obsp", "varp"):
        _mark(group.create_group(empty), "dict", "0.1.0")
    _write_uns(group, label)


def list_table(path: AnyPath, zarr_format: Literal[2, 3]) -> None:
    """Name a table in the group of all tables, which is made if need be."""
    parent = zarr.open_group(zarr_place(path.parent), mode="a", zarr_format=zarr_format)
    known: Any = parent.attrs.get("tables", [])
    if path.name not in known:
        parent.attrs["tables"] = [*known, path.name]


def is_ours(path: AnyPath) -> bool:
    """Whether a group of a table was written by us."""
    try:
        return zarr.open_group(zarr_place(path), mode="r").attrs.get("written_by") == WRITER
    except (OSError, ValueError, KeyError):
        return False


def digest_of_folder(path: AnyPath) -> str:
    """Digest of the names and bytes of all files below a folder."""
    if isinstance(path, Path):
        names = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
    else:
        names = [item.name for item in path.walk()]
    parts: list[bytes] = []
    for name in sorted(names):
        with open_file(str(path / name)) as stream:
            parts.append(f"{name}\0{digest_of_file(stream)}\0".encode())
    return digest(*parts)


def _attributes(label: str) -> dict[str, Any]:
    return {
        "encoding-type": "anndata",
        "encoding-version": "0.1.0",
        "written_by": WRITER,
        # The proposal for OME-NGFF, as SpatialData has it.
        "spatialdata-encoding-type": "ngff:regions_table",
        "version": "0.2",
        "region": {"path": f"../labels/{label}"},
        "region_key": REGION,
        "instance_key": INSTANCE,
        # ngio.
        "type": "feature_table",
        "table_version": "1",
        "backend": "anndata",
        "index_key": INSTANCE,
        "index_type": "int",
    }


def _fill(x: Any, columns: dict[str, Any], file: pq.ParquetFile, variables: list[str]) -> None:
    begin = 0
    for batch in file.iter_batches(batch_size=ROWS):
        rows = pa.Table.from_batches([batch])
        end = begin + len(rows)
        numbers = [rows[name].to_numpy().astype(np.float64) for name in variables]
        if numbers and len(rows):
            x[begin:end] = np.stack(numbers, axis=1)
        for name, array in columns.items():
            array[begin:end] = _values(rows, name, begin)
        begin = end


def _values(rows: pa.Table, name: str, begin: int) -> Any:
    if name == INDEX:  # labels of a map of classes occur in every frame
        return np.array([str(begin + k) for k in range(len(rows))], dtype=object)
    if pa.types.is_string(rows.schema.field(name).type):
        return np.array(rows[name].to_pylist(), dtype=object)
    found = rows[name].to_numpy()
    return found.astype(np.int64) if name == INSTANCE else found


def _column(group: Any, name: str, kind: Any, rows: int) -> Any:
    if pa.types.is_string(kind):
        return _strings(group, name, rows)
    dtype = np.dtype("int64") if name == INSTANCE else np.dtype(kind.to_pandas_dtype())
    return _mark(_array(group, name, (rows,), dtype.name), "array", "0.2.0")


def _frame(group: Any, name: str, columns: list[str]) -> Any:
    frame = _mark(group.create_group(name), "dataframe", "0.2.0")
    frame.attrs.update({"_index": INDEX, "column-order": columns})
    return frame


def _categorical(group: Any, name: str, categories: list[str], rows: int) -> None:
    """A column that has the first category throughout."""
    column = _mark(group.create_group(name), "categorical", "0.2.0")
    column.attrs["ordered"] = False
    _strings(column, "categories", len(categories))[:] = np.array(categories, dtype=object)
    _mark(_array(column, "codes", (rows,), "int8"), "array", "0.2.0")[:] = 0


def _write_uns(group: Any, label: str) -> None:
    uns = _mark(group.create_group("uns"), "dict", "0.1.0")
    spatial = _mark(uns.create_group("spatialdata_attrs"), "dict", "0.1.0")
    for key, value in (("region", label), ("region_key", REGION), ("instance_key", INSTANCE)):
        array = spatial.create_array(key, shape=(), dtype=str)
        array[...] = value
        _mark(array, "string", "0.2.0")


def _array(group: Any, name: str, shape: tuple[int, ...], dtype: str) -> Any:
    chunks = (max(1, min(ROWS, shape[0])), *(max(1, n) for n in shape[1:]))
    return group.create_array(name, shape=shape, chunks=chunks, dtype=dtype)


def _strings(group: Any, name: str, rows: int) -> Any:
    array = group.create_array(name, shape=(rows,), chunks=(max(1, min(ROWS, rows)),), dtype=str)
    return _mark(array, "string-array", "0.2.0")


def _mark(node: Any, kind: str, version: str) -> Any:
    node.attrs.update({"encoding-type": kind, "encoding-version": version})
    return node
