from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.sources.base import Source, SourceSpec, open_source


@pytest.fixture
def open_path() -> Callable[..., Source]:
    """Open a file by its path; the reader follows from its suffix."""

    def open_it(path: Path, series: str = "", missing: str = "error") -> Source:
        readers = {".png": "picture", ".jpg": "picture", ".zarr": "ome_zarr"}
        reader = readers.get(path.suffix.lower(), "tiff")
        return open_source(SourceSpec(reader, str(path), path.stem, series, missing))

    return open_it
