from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.box import Box
from pipeline.sources.base import Source, SourceSpec, open_source


@pytest.fixture
def open_path() -> Callable[..., Source]:
    """Open a file by its path; the reader follows from its suffix."""

    def open_it(path: Path, series: str = "", missing: str = "error") -> Source:
        readers = {".png": "picture", ".jpg": "picture", ".zarr": "ome_zarr"}
        reader = readers.get(path.suffix.lower(), "tiff")
        return open_source(SourceSpec(reader, str(path), path.stem, series, missing))

    return open_it


@pytest.fixture
def same() -> Callable[[Source, np.ndarray], None]:
    """Compare a source with the whole (T, C, Z, Y, X) array, whole and in random boxes."""

    def compare(source: Source, want: np.ndarray, draws: int = 12) -> None:
        assert source.info.shape == want.shape
        assert source.info.dtype == want.dtype.name
        times, channels, *space = want.shape
        rng = np.random.default_rng(7)
        for t in range(times):
            got = source.read(t, range(channels), Box.whole(space))
            np.testing.assert_array_equal(got, want[t])
        for _ in range(draws):
            start = tuple(int(rng.integers(0, n)) for n in space)
            stop = tuple(int(rng.integers(a + 1, n + 1)) for a, n in zip(start, space, strict=True))
            t, box = int(rng.integers(times)), Box(start, stop)
            chosen = [int(c) for c in rng.integers(0, channels, size=rng.integers(1, 4))]
            got = source.read(t, chosen, box)
            assert got.flags.c_contiguous
            assert got.flags.writeable
            assert got.dtype == np.dtype(want.dtype.name)
            np.testing.assert_array_equal(got, want[(t, chosen, *box.slices)])

    return compare
