"""Records on disk: read lazily, and never when they are damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import OutputError
from pipeline.record_files import COMBINED, MAPPED_BYTES, Part, flatten, open_record
from pipeline.records import save


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, str]:
    record = flatten({3: {"a": np.arange(5)}, 11: {"a": np.arange(7), "b": np.ones(2)}}, "round")
    record |= flatten({3: {"a": np.zeros(1)}, COMBINED: {"sum": np.array(4)}}, "pieces")
    path = tmp_path / "3-11.npz"
    return path, save(path, record)


def test_parts_of_tiles_and_kinds_are_kept_apart(saved: tuple[Path, str]) -> None:
    whole = open_record(str(saved[0]), saved[1])
    assert list(Part(whole, 11, "round")) == ["a", "b"]
    assert Part(whole, 11, "round")["a"].tolist() == list(range(7))
    assert dict(Part(whole, 3, "pieces"))["a"].tolist() == [0.0]
    assert int(Part(whole, COMBINED, "pieces")["sum"]) == 4
    assert len(Part(whole, 11, "round")) == 2
    # Tile 1 is no beginning of tile 11.
    assert dict(Part(whole, 1, "round")) == {}


def test_every_flipped_bit_is_damage(saved: tuple[Path, str]) -> None:
    path, expected = saved
    good = path.read_bytes()
    for place in range(0, len(good), max(1, len(good) // 40)):
        bad = bytearray(good)
        bad[place] ^= 1 << place % 8
        path.write_bytes(bad)
        with pytest.raises(OutputError, match="changed or damaged on disk"):
            open_record(str(path), expected)
    path.write_bytes(good)
    assert list(open_record(str(path), expected))


@pytest.mark.parametrize("length", [0, 1, -1])
def test_a_truncated_file_is_damage(saved: tuple[Path, str], length: int) -> None:
    path, expected = saved
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(OutputError, match=r"3-11\.npz.*--fresh"):
        open_record(str(path), expected)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"gone\.npz.*cannot be read.*--fresh"):
        open_record(str(tmp_path / "gone.npz"), "0" * 32)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_large_array_is_mapped_and_its_file_stays_as_it_is(tmp_path: Path, order: str) -> None:
    path = tmp_path / "state.npz"
    values = np.arange(MAPPED_BYTES // 8).reshape(64, -1)
    saved = save(path, {"small": np.arange(3), "large": np.asarray(values, order=order)})
    record = open_record(str(path), saved)
    large = record["large"]
    assert isinstance(large.base, np.memmap)
    assert large.flags.aligned
    assert not isinstance(record["small"].base, np.memmap)
    assert large.tobytes() == values.tobytes()
    large[:] = 0
    assert record["large"].tolist() == values.tolist()
    open_record.cache_clear()
    assert open_record(str(path), saved).keys() == {"small", "large"}
