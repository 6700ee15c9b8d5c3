from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.sources.base import Source, SourceSpec, open_source
from pipeline.sources.formats import format_of


@pytest.fixture
def open_path() -> Callable[..., Source]:
    """Open a file by its path; the reader follows from its suffix."""

    def open_it(path: Path, series: str = "", missing: str = "error") -> Source:
        form = format_of(path.name)
        folder = "ome_zarr" if path.suffix.lower() == ".zarr" else "tiff"
        reader = folder if form is None else form.reader
        return open_source(SourceSpec(reader, str(path), path.stem, series, missing))

    return open_it
