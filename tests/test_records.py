"""Records keep their arrays; equal records are equal bytes."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.files import digest
from pipeline.records import pack, save, unpack

ARRAYS = hnp.arrays(
    st.sampled_from(["bool", "uint8", "int64", "uint64", "float32", "float64"]).map(np.dtype),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)
RECORDS = st.dictionaries(st.text("abc.-|0", min_size=1, max_size=8), ARRAYS, max_size=5)


@given(RECORDS)
@settings(deadline=None)
def test_a_record_comes_back_as_it_was(record: dict[str, np.ndarray]) -> None:
    found = unpack(pack(record))
    assert found.keys() == record.keys()
    for key, array in record.items():
        assert found[key].dtype == array.dtype
        assert found[key].shape == array.shape
        assert found[key].tobytes() == array.tobytes()


@given(RECORDS)
@settings(deadline=None)
def test_the_order_of_keys_does_not_change_the_bytes(record: dict[str, np.ndarray]) -> None:
    assert pack(dict(reversed(record.items()))) == pack(record)


def test_saving_returns_the_digest_of_the_file(tmp_path) -> None:
    path = tmp_path / "deep" / "record.npz"
    found = save(path, {"a": np.arange(3)})
    assert found == digest(path.read_bytes())
    assert found == save(path, {"a": np.arange(3)})
    assert found != save(path, {"a": np.arange(4)})
    assert [p.name for p in path.parent.iterdir()] == ["record.npz"]


def test_arrays_begin_where_they_can_be_used() -> None:
    record = {"a" * n: np.full(n, n, np.int64) for n in range(9)}
    data = pack(record)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
    for n in range(1, 9):
        assert data.index(np.full(n, n, np.int64).tobytes()) % 64 == 0


def test_objects_are_neither_written_nor_read_back() -> None:
    objects = np.array([{}], object)
    with pytest.raises(ValueError, match="allow_pickle"):
        pack({"a": objects})
    buffer = io.BytesIO()
    np.savez(buffer, a=objects)
    with pytest.raises(ValueError, match="allow_pickle"):
        unpack(buffer.getvalue())
