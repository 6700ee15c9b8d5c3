"""Tables of numbers beside an image, with errors that name the file and the line."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import MethodError
from pipeline.storage import path_of


@dataclass(frozen=True, slots=True)
class CsvTable:
    """A CSV file with a header.

    Parameters
    ----------
    path : str
    image : str
        The image that it belongs to, for messages.
    columns : tuple of str
    rows : list of dict
        Text by column.
    """

    path: str
    image: str
    columns: tuple[str, ...]
    rows: list[dict[str, str]]

    @classmethod
    def read(cls, path: str, image: str) -> CsvTable:
        """Read a file with commas, semicolons or tabs between its columns.

        Raises
        ------
        MethodError
            If it is no such table.
        """
        try:
            text = path_of(path).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise MethodError(image, f"{path} cannot be read as a table ({error})") from error
        head = text.partition("\n")[0]
        mark = max(",;\t", key=head.count)
        reader = csv.DictReader(text.splitlines(), delimiter=mark)
        columns = tuple((name or "").strip() for name in reader.fieldnames or ())
        read = list(reader)
        for line, row in enumerate(read, 2):
            if None in row:
                raise MethodError(
                    image,
                    f"{path}, line {line} has more cells than there are columns",
                    "Put cells that hold the mark between columns in quotes.",
                )
        rows = [
            {
                name: (value or "").strip()
                for name, value in zip(columns, row.values(), strict=False)
            }
            for row in read
        ]
        return cls(path, image, columns, rows)

    def number(self, row: int, column: str) -> float:
        """A cell as a number.

        Raises
        ------
        MethodError
            If it is none.
        """
        text = self.rows[row].get(column, "")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise MethodError(
                self.image,
                f"{self.path}, line {row + 2}: {column} is {text!r}, not a number",
                "Correct the table.",
            )
        return value

    def require(self, columns: Sequence[str]) -> None:
        """Refuse a table without some columns.

        Raises
        ------
        MethodError
        """
        missing = [name for name in columns if name not in self.columns]
        if missing:
            raise MethodError(
                self.image,
                f"{self.path} has no column {missing[0]!r}, only {', '.join(self.columns)}",
                f"Needed are {', '.join(columns)}.",
            )
