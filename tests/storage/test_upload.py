"""Files in stores: what arrives, in how many parts, after which faults, and in how much memory."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.storage import StorePath, upload
from pipeline.storage.folders import put_file
from tests.storage.faulty import FaultyDoor

#: The least that S3 takes as a part.
PART = 5 << 20

PUT = """
import sys
from pathlib import Path
from pipeline.storage import StorePath, upload
from pipeline.storage.folders import put_file

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) << 10

upload.PART_BYTES = int(sys.argv[4])
small, large, target = Path(sys.argv[1]), Path(sys.argv[2]), StorePath.of(sys.argv[3])
put_file(small, target / "small")
before = peak()
put_file(large, target / "large")
print(peak() - before)
"""


def made(path: Path, size: int, seed: int = 0) -> bytes:
    content = np.random.default_rng(seed).bytes(size)
    path.write_bytes(content)
    return content


@pytest.mark.parametrize(("size", "parts"), [(0, 1), (PART, 1), (PART + 1, 2), (2 * PART + 7, 3)])
def test_a_large_file_arrives_in_parts(
    size: int, parts: int, bucket: StorePath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "PART_BYTES", PART)
    content = made(tmp_path / "file", size)
    put_file(tmp_path / "file", bucket / "folder/file")
    assert (bucket / "folder/file").read_bytes() == content
    assert not (tmp_path / "file").exists()
    there = (bucket / "folder/file").head()
    assert there is not None
    # An entity tag of S3 tells the number of parts.
    assert there.version.strip('"').partition("-")[2] == (str(parts) if parts > 1 else "")


@pytest.mark.parametrize("other", [None, b"", b"another"])
def test_a_lost_reply_to_the_end_of_a_put_does_no_harm(
    other: bytes | None,
    bucket: StorePath,
    behind: Callable[..., FaultyDoor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upload, "PART_BYTES", PART)
    content = made(tmp_path / "file", PART + 9)
    if other is not None:
        (bucket / "file").write_bytes(other)
    door, asked = behind(0.0), Counter[str]()

    def fault(method: str) -> str:
        asked[method] += 1
        # The first of its kind begins the put, the second one ends it, and is repeated.
        return {2: "lost", 3: "gone"}.get(asked[method], "") if method == "POST" else ""

    monkeypatch.setattr(door, "fault", fault)
    put_file(tmp_path / "file", bucket / "file")
    assert (asked["POST"], asked["PUT"]) == (3, 2)  # the end is asked for again, parts are not
    assert (bucket / "file").read_bytes() == content


def test_faults_in_the_middle_of_a_put_are_ridden_out(
    bucket: StorePath,
    behind: Callable[..., FaultyDoor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upload, "PART_BYTES", PART)
    door = behind(0.3, 5)
    for number in range(4):
        content = made(tmp_path / "file", 2 * PART + number, number)
        put_file(tmp_path / "file", bucket / "file")
        assert (bucket / "file").read_bytes() == content
    assert all(door.seen[kind] > 0 for kind in ("error", "lost", "cut"))


def test_a_put_that_is_refused_is_no_success(
    bucket: StorePath,
    behind: Callable[..., FaultyDoor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upload, "PART_BYTES", PART)
    monkeypatch.setattr("pipeline.storage.stores.RETRIES", 1)
    monkeypatch.setattr("pipeline.storage.stores.RETRY_S", 1.0)
    before = made(tmp_path / "file", PART + 9)
    (bucket / "file").write_bytes(before)  # of the same size
    made(tmp_path / "file", PART + 9, seed=1)
    door = behind(0.0)
    monkeypatch.setattr(door, "fault", lambda method: "error" * (method in ("POST", "PUT")))
    with pytest.raises(OSError, match="did not answer as it should"):
        put_file(tmp_path / "file", bucket / "file")
    assert (bucket / "file").read_bytes() == before
    assert (tmp_path / "file").exists()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from /proc")
def test_memory_does_not_grow_with_the_file(bucket: StorePath, tmp_path: Path) -> None:
    few = PART * (upload.AT_ONCE + 2)
    made(tmp_path / "small", 4 * PART)
    content = made(tmp_path / "large", 4 * few)
    files = [str(tmp_path / name) for name in ("small", "large")]
    command = [sys.executable, "-c", PUT, *files, str(bucket), str(PART)]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(found.stdout) < few
    there = (bucket / "large").head()
    assert there is not None
    assert there.size == len(content)
