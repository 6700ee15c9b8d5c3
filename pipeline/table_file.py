"""Writing an object table so that equal rows make equal files, however they arrived."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.files import digest
from pipeline.storage import AnyPath
from pipeline.storage.folders import put_file

#: Rows a row group; fixed, so that neither the file nor its digest depends on the tiling.
ROWS = 65536


class TableFile:
    """A parquet file that takes tables of any length.

    Parameters
    ----------
    path : Path or StorePath
        Replaced if it exists; its folder is made. In a store it appears when it is complete.
    schema : pyarrow.Schema
    """

    def __init__(self, path: AnyPath, schema: pa.Schema) -> None:
        self._target = path
        if isinstance(path, Path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path
        else:
            handle, name = tempfile.mkstemp(suffix=".parquet")
            os.close(handle)
            self._file = Path(name)
        self._writer = pq.ParquetWriter(self._file, schema, compression="zstd")
        self._schema = schema
        self._waiting: list[pa.Table] = []
        self._digests: list[str] = []

    def add(self, table: pa.Table) -> None:
        """Append rows."""
        self._waiting.append(table.cast(self._schema))
        if sum(len(t) for t in self._waiting) >= ROWS:
            self._write(whole_groups_only=True)

    @property
    def digest(self) -> str:
        """Of the values, once the file is closed."""
        return digest(*(item.encode() for item in self._digests))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._write(whole_groups_only=False)
        self._writer.close()
        if isinstance(self._target, Path):
            return
        if error is None:
            put_file(self._file, self._target)
        self._file.unlink(missing_ok=True)

    def _write(self, *, whole_groups_only: bool) -> None:
        if not self._waiting:
            return
        rows = pa.concat_tables(self._waiting).combine_chunks()
        stop = len(rows) // ROWS * ROWS if whole_groups_only else len(rows)
        for begin in range(0, stop, ROWS):
            group = rows.slice(begin, min(ROWS, stop - begin))
            self._writer.write_table(group)
            self._digests.append(_content_digest(group))
        self._waiting = [rows.slice(stop)] if stop < len(rows) else []


def open_table(path: AnyPath) -> Path | pa.BufferReader:
    """What pyarrow reads a table from."""
    return path if isinstance(path, Path) else pa.BufferReader(path.read_bytes())


def table_digest(path: AnyPath) -> str:
    """Digest of the values of a file that `TableFile` wrote."""
    file = pq.ParquetFile(open_table(path))
    return digest(
        *(_content_digest(file.read_row_group(i)).encode() for i in range(file.num_row_groups))
    )


def _content_digest(group: pa.Table) -> str:
    parts: list[bytes | memoryview] = []
    for name in group.column_names:
        column = group[name].combine_chunks()
        if pa.types.is_string(column.type):
            parts.append("\0".join(map(str, column.to_pylist())).encode())
        else:
            plain = column.cast(pa.uint8()) if pa.types.is_boolean(column.type) else column
            parts.append(plain.to_numpy(zero_copy_only=False).tobytes())
    return digest(*parts)
