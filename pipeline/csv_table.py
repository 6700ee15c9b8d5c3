"""The object table as CSV, for programs that read no parquet."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from pipeline.files import digest_of_file
from pipeline.storage import AnyPath
from pipeline.storage.folders import put_file
from pipeline.table_file import open_table

#: Rows that are held in memory at once.
ROWS = 65536


def write_csv(path: AnyPath, table: AnyPath, partial: Path) -> str:
    """Write the rows of a parquet file; a reader never meets half of them.

    Numbers are written so that they read back as the same bits; what is not known is empty.

    Parameters
    ----------
    path, table : Path or StorePath
    partial : Path
        Where it grows on disk.

    Returns
    -------
    str
        Digest of the file.
    """
    file = pq.ParquetFile(open_table(table))
    with csv.CSVWriter(partial, file.schema_arrow) as writer:
        for batch in file.iter_batches(batch_size=ROWS):
            writer.write_table(_without_nan(pa.Table.from_batches([batch])))
    with partial.open("rb") as stream:
        found = digest_of_file(stream)
    put_file(partial, path)
    return found


def _without_nan(table: pa.Table) -> pa.Table:
    columns = [
        pa.array(column.to_numpy(), column.type, from_pandas=True)
        if pa.types.is_floating(column.type)
        else column
        for column in table.columns
    ]
    return pa.table(columns, schema=table.schema)
