"""Files that arrive: half-written, again, changed, taken away, and a record that is interrupted."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.service.arrivals import Arrivals, Looked, signature_of

SETTLE = 60.0


class Archive:
    """A folder, its record, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "archive"
        self.folder.mkdir()
        self.record = folder / "out" / "arrivals.sqlite"
        self.now = 1000.0
        self.arrivals = Arrivals(self.record)

    def write(self, name: str, content: str) -> str:
        path = self.folder / name
        path.write_text(content)
        os.utime(path, (self.now, self.now))
        return str(path)

    def look(self, after: float = SETTLE) -> Looked:
        self.now += after
        return self.arrivals.look(sorted(map(str, self.folder.iterdir())), SETTLE, self.now)

    def take(self, after: float = SETTLE) -> list[str]:
        """Look, leave copies out, and do what is ready."""
        ready = self.arrivals.without_copies(self.look(after).ready)
        self.arrivals.finish(ready)
        return [Path(path).name for path in ready]

    def restart(self) -> None:
        self.arrivals.close()
        self.arrivals = Arrivals(self.record)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    found = Archive(tmp_path)
    yield found
    found.arrivals.close()


def test_a_file_is_taken_once_it_has_settled(archive: Archive) -> None:
    archive.write("a.tif", "abc")
    assert archive.look() == Looked({}, 1, [])
    assert archive.take(SETTLE - 1) == []
    assert archive.take(1) == ["a.tif"]
    assert archive.take() == []


def test_a_file_that_grows_waits(archive: Archive) -> None:
    for length in range(1, 6):
        archive.write("a.tif", "x" * length)
        assert archive.take() == []
    assert archive.take() == ["a.tif"]


def test_what_was_not_finished_is_ready_again(archive: Archive) -> None:
    path = archive.write("a.tif", "abc")
    archive.look()
    assert list(archive.look().ready) == [path]
    archive.restart()  # the run was killed
    assert list(archive.look(0).ready) == [path]
    archive.arrivals.finish({path: signature_of(path)})
    archive.restart()
    assert archive.look().ready == {}


def test_a_file_that_changed_while_it_was_done_is_done_again(archive: Archive) -> None:
    path = archive.write("a.tif", "abc")
    archive.look()
    ready = archive.look().ready
    archive.write("a.tif", "abcdef")
    archive.arrivals.finish(ready)
    assert archive.take() == []
    assert archive.take() == ["a.tif"]
    assert path in ready


def test_a_copy_of_the_same_content_is_not_done_again(archive: Archive) -> None:
    archive.write("a.tif", "abc")
    archive.take()
    assert archive.take() == ["a.tif"]
    archive.write("a.tif", "abc")  # at another time
    archive.take()
    assert archive.take() == []
    assert archive.look().ready == {}  # not even read again
    archive.write("a.tif", "abd")
    archive.take()
    assert archive.take() == ["a.tif"]


def test_removed_files_are_told_once_and_may_come_back(archive: Archive) -> None:
    path = archive.write("a.tif", "abc")
    waiting = archive.write("b.tif", "abc")
    archive.look()
    archive.arrivals.finish({path: signature_of(path)})
    Path(path).unlink()
    Path(waiting).unlink()  # was never done: no news
    assert archive.look().removed == [path]
    assert archive.look().removed == []
    archive.write("a.tif", "other")
    assert archive.look().waiting == 1
    assert list(archive.look().ready) == [path]


def test_a_folder_settles_as_a_whole(archive: Archive) -> None:
    chunk = archive.folder / "a.ome.zarr" / "0" / "c" / "0"
    chunk.parent.mkdir(parents=True)
    chunk.write_bytes(b"1")
    archive.look()
    (chunk.parent / "1").write_bytes(b"2")  # as large in all, in another file
    assert archive.look().ready == {}
    assert [Path(p).name for p in archive.look().ready] == ["a.ome.zarr"]


def test_a_link_to_nowhere_is_no_file(archive: Archive) -> None:
    (archive.folder / "a.tif").symlink_to(archive.folder / "gone.tif")
    assert archive.look() == Looked({}, 0, [])


def test_two_looks_do_not_hinder_each_other(archive: Archive) -> None:
    archive.write("a.tif", "abc")
    other = Arrivals(archive.record)
    archive.look()
    paths = sorted(map(str, archive.folder.iterdir()))
    assert other.look(paths, SETTLE, archive.now + SETTLE).ready == archive.look().ready
    other.close()


def test_an_interrupted_look_changes_nothing(archive: Archive) -> None:
    path = archive.write("a.tif", "abc")

    def broken() -> Iterator[str]:
        yield path
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        archive.arrivals.look(broken(), SETTLE, 5000.0)
    rows = sqlite3.connect(archive.record).execute("SELECT COUNT(*) FROM file").fetchone()
    assert rows == (0,)


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["write", "same", "kill", "remove"]))
    )
)
def test_every_content_that_settles_is_taken_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str]]
) -> None:
    archive = Archive(tmp_path_factory.mktemp("steps"))
    content: dict[str, int] = {}
    taken: dict[str, list[int]] = {name: [] for name in "abc"}
    for number, (name, what) in enumerate(steps):
        if what == "write" or (what == "same" and name not in content):
            content[name] = number
            archive.write(name, str(number))
        elif what == "same":
            archive.write(name, str(content[name]))
        elif what == "remove" and name in content:
            del content[name]
            (archive.folder / name).unlink()
        else:
            archive.look()
            archive.restart()
        for done in archive.take():
            taken[done].append(content[done])
    for _ in range(2):
        for done in archive.take():
            taken[done].append(content[done])
    archive.arrivals.close()
    for name, numbers in taken.items():
        assert all(a != b for a, b in itertools.pairwise(numbers))
        if name in content:
            assert numbers[-1] == content[name]
