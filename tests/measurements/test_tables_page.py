"""docs/tables.md lists every column that tables have, and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.measurements.schema import all_texts, listing, text_of
from tests.measurements.given_labels import measured
from tests.measurements.test_measurements import ALL

PAGE = Path(__file__).parents[2] / "docs" / "tables.md"
#: Columns that the drawn images of this test do not have.
OF_METHODS = {"class", "{fact}", "{parent}_label", "label_image"}


def test_the_page_holds_the_listing() -> None:
    text = PAGE.read_text("utf-8")
    begin, end = text.index("<!-- begin"), text.index("<!-- end -->")
    shown = text[text.index("\n", begin) + 1 : end]
    assert shown == listing() + "\n", "write what pipeline.measurements.schema.listing gives there"


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[pa.Table]:
    folder = tmp_path_factory.mktemp("tables")
    labels = np.zeros((3, 9, 10), np.uint8)
    labels[:, 2:5, 2:8], labels[1:, 5:8, 4:7] = 1, 2
    found = []
    for dims in ("2d", "3d"):
        content: dict[str, Any] = {"measure": ALL, "source": {"dims": dims}}
        image = np.stack([labels * 50, labels * 40 + 3])
        found.append(measured(labels, image, folder, 4, **content)[1])
    return found


def test_every_column_is_listed_with_its_dtype(tables: list[pa.Table]) -> None:
    texts = [text for text in all_texts() if text.name not in OF_METHODS]
    seen = set()
    for table in tables:
        for field in table.schema:
            text = text_of(field.name, texts)
            assert text is not None, f"{field.name} is not in the list"
            assert text.dtype == str(field.type).replace("double", "float64"), field.name
            seen.add(text.name)
    assert {text.name for text in texts} - seen == set(), "listed, but in no table"


def test_names_say_their_unit(tables: list[pa.Table]) -> None:
    texts = [text for text in all_texts() if text.name not in OF_METHODS]
    ends = {"px": "px", "um": "um", "px^2": "px2", "um^2": "um2", "um^3": "um3", "rad": "rad"}
    for table in tables:
        for name in table.column_names:
            unit = text_of(name, texts).unit  # type: ignore[union-attr]
            if unit in ends:
                plain = name.removesuffix("_a").removesuffix("_b")
                assert plain.endswith(f"_{ends[unit]}"), name
