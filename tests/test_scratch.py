"""Scratch gives back what was put, or an error: never something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.errors import OutputError
from pipeline.scratch import FileScratch, MemoryScratch, Scratch


@pytest.fixture(params=["memory", "file"])
def scratch(request: pytest.FixtureRequest, tmp_path: Path) -> Scratch:
    return MemoryScratch() if request.param == "memory" else FileScratch(tmp_path)


def test_arrays_come_back_as_they_were(scratch: Scratch) -> None:
    generator = np.random.default_rng(0)
    for tile, dtype in enumerate(["bool", "uint8", "uint32", "int64", "float32", "float64"]):
        for shape in [(), (0,), (3, 0, 2), (7,), (5, 6), (2, 3, 4)]:
            array = np.asarray(generator.random(shape) * 250).astype(dtype)
            scratch.put("a", tile, array)
            found = scratch.get("a", tile)
            assert found.dtype == array.dtype
            assert found.shape == array.shape
            assert np.array_equal(found, array)


def test_strided_arrays_are_kept_by_value(scratch: Scratch) -> None:
    array = np.arange(40).reshape(5, 8)
    scratch.put("a", 0, array[::2, ::-3])
    scratch.put("turned", 0, array.T)
    array[:] = 0
    assert scratch.get("a", 0).tolist() == [[7, 4, 1], [23, 20, 17], [39, 36, 33]]
    assert scratch.get("turned", 0)[:, 1].tolist() == list(range(8, 16))


def test_the_last_one_counts_and_names_and_tiles_are_apart(scratch: Scratch) -> None:
    for name, tile, value in [("a", 0, 1), ("a", 1001, 2), ("b", 0, 3), ("a", 0, 4)]:
        scratch.put(name, tile, np.full(3, value))
    assert scratch.get("a", 0).tolist() == [4] * 3
    assert scratch.get("a", 1001).tolist() == [2] * 3
    assert scratch.get("b", 0).tolist() == [3] * 3


def test_another_process_reads_what_is_on_disk(tmp_path: Path) -> None:
    FileScratch(tmp_path).put("a", 5, np.arange(4))
    assert FileScratch(tmp_path).get("a", 5).tolist() == [0, 1, 2, 3]


@given(array=hnp.arrays(np.uint32, (9, 9), elements=st.integers(0, 3)), data=st.data())
@settings(deadline=None, max_examples=60)
def test_any_changed_byte_is_noticed(
    array: np.ndarray, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("scratch")
    scratch = FileScratch(folder)
    scratch.put("a", 0, array)
    (path,) = (p for p in folder.rglob("*") if p.is_file())
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with pytest.raises(OutputError, match="damaged"):
        scratch.get("a", 0)


def test_truncation_and_loss_are_noticed(tmp_path: Path) -> None:
    scratch = FileScratch(tmp_path)
    scratch.put("a", 0, np.zeros((64, 64)))
    (path,) = (p for p in tmp_path.rglob("*") if p.is_file())
    good = path.read_bytes()
    for length in (0, 10, 16, 23, 24, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:length])
        with pytest.raises(OutputError, match=r"damaged.*--fresh"):
            scratch.get("a", 0)
    path.unlink()
    with pytest.raises(OutputError, match=r"missing.*--fresh"):
        scratch.get("a", 0)
