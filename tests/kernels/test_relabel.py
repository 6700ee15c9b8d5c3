"""`relabel` is NumPy's indexing, `occurring` its unique."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import DTypeLike

from pipeline.kernels.relabel import occurring, relabel


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint32, np.int64])
@pytest.mark.parametrize("values", [np.bool_, np.int32, np.uint32, np.uint64])
def test_equals_indexing(dtype: DTypeLike, values: DTypeLike) -> None:
    rng = np.random.default_rng(1)
    table = rng.integers(0, 2**31, 200).astype(values)
    numbers = rng.integers(0, 200, (3, 17, 40)).astype(dtype)
    found = relabel(numbers, table)
    assert found.dtype == table.dtype
    assert np.array_equal(found, table[numbers])


def test_negative_numbers_count_from_the_end() -> None:
    table = np.arange(5, dtype=np.uint32)
    assert relabel(np.array([-1, 0, -5], np.int32), table).tolist() == [4, 0, 0]


def test_reads_what_may_not_be_written() -> None:
    table, numbers = np.arange(5, dtype=np.uint32), np.array([[1, 2], [3, 4]], np.uint32).T
    table.flags.writeable = numbers.flags.writeable = False
    assert relabel(numbers, table).tolist() == [[1, 3], [2, 4]]


@pytest.mark.parametrize("number", [5, -6])
def test_refuses_what_is_not_in_the_table(number: int) -> None:
    with pytest.raises(IndexError, match="table of 5"):
        relabel(np.array([0, number], np.int32), np.arange(5, dtype=np.uint32))


def test_out_may_be_the_numbers() -> None:
    numbers = np.array([[0, 2], [1, 2]], np.int32)
    assert relabel(numbers, np.array([7, 8, 9], np.int32), out=numbers) is numbers
    assert numbers.tolist() == [[7, 9], [8, 9]]
    for wrong in (np.empty((2, 2), np.int64), np.empty(4, np.int32), numbers.T):
        with pytest.raises(ValueError, match="out must be"):
            relabel(np.zeros((2, 2), np.int32), np.arange(3, dtype=np.int32), out=wrong)


def test_of_nothing_is_nothing() -> None:
    assert relabel(np.empty((0, 3), np.uint32), np.arange(2, dtype=np.uint32)).shape == (0, 3)


def test_occurring() -> None:
    numbers = np.array([[3, -1, 0], [3, 7, -5]], np.int32)
    assert np.flatnonzero(occurring(numbers, 8)).tolist() == [0, 3, 7]
    assert not occurring(np.empty(0, np.uint32), 2).any()
    with pytest.raises(IndexError, match="not below 7"):
        occurring(numbers, 7)
