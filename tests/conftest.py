"""Shared by all tests: the real command, with a Prefect server that runs already."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from hypothesis import settings
from typer.testing import CliRunner

from pipeline.box import Box
from pipeline.sources.base import Source
from tests.compile_once import kernels_compiled_once

# Machines of other people are slow at times, and their tests must not fail by chance.
settings.register_profile("tilewright", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("tilewright")

HOLD = """
import sys
from pathlib import Path
from flows.server import start_server
start_server(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""
DEMO = Path(__file__).parent / "data" / "demo"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests, which mostly wait for processes, come first: at the end they would run alone."""
    items.sort(key=lambda item: item.get_closest_marker("crash") is None)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is measured of models is not kept in the user's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _compiled_once() -> Iterator[None]:
    with kernels_compiled_once():
        yield


@dataclass(frozen=True)
class Command:
    """`tilewright` in a process of its own, at home in a folder of the test session."""

    home: Path

    def start(self, *args: object, **environment: str) -> subprocess.Popen[str]:
        """Start it; the caller waits."""
        return subprocess.Popen(
            [sys.executable, "-c", "from flows.cli import main; main()", *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.home,
            env={**self.environment(), **environment},
        )

    def __call__(self, *args: object, expect: int = 0, **environment: str) -> str:
        """Run it to its end; returns stdout and stderr, which never hold a traceback."""
        process = self.start(*args, **environment)
        output, _ = process.communicate()
        assert process.returncode == expect, output
        assert "Traceback" not in output
        return output

    @property
    def server_home(self) -> Path:
        """Home of the Prefect server."""
        return self.home / ".tilewright" / "prefect"

    def environment(self) -> dict[str, str]:
        """The user's environment without Prefect's settings."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
        return {**kept, "HOME": str(self.home), "NO_COLOR": "1"}


@pytest.fixture(scope="session")
def demo() -> Path:
    """The demonstration archive."""
    return DEMO


@pytest.fixture(scope="session")
def tilewright(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """The command; its server is kept for the session, since a cold start takes 17 s."""
    command = Command(tmp_path_factory.mktemp("home"))
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(command.server_home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=command.environment(),
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    yield command
    holder.communicate()


@pytest.fixture(scope="session")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, tilewright: Command, demo: Path
) -> tuple[Path, Path]:
    """An archive of one image that is spread over workers and small ones; a run that finished."""
    folder = tmp_path_factory.mktemp("undisturbed")
    archive, out = folder / "archive", folder / "out"
    archive.mkdir()
    (archive / "large.ome.tif").symlink_to(demo / "montage" / "sixteen_fields.ome.tif")
    for path in sorted((demo / "crowded").iterdir()):
        (archive / path.name).symlink_to(path)
    tilewright("run", "nuclei", archive, out, "--tile", 256, "--workers", 2)
    return archive, out


class Plain:
    """A Prefect flow or task without Prefect."""

    def __init__(self, decorated: Any) -> None:
        self._function = decorated.fn

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def submit(self, *args: Any) -> Any:
        answer = self._function(*args)
        return SimpleNamespace(result=lambda: answer)

    def with_options(self, **options: Any) -> Plain:
        return self


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`tilewright` in this process, without cluster and server: for what can be patched."""
    from flows import run, segment
    from flows.cli import app
    from flows.progress import RunProgress
    from workers.submit import run_serially

    server = SimpleNamespace(wait=lambda: None)
    monkeypatch.setattr(run, "embedded_server", lambda _: nullcontext(server))
    monkeypatch.setattr(run, "open_cluster", lambda *_, **__: nullcontext())
    monkeypatch.setattr(run, "run_batches", lambda _, *given, **__: run_serially(*given))
    monkeypatch.setattr(run, "RunProgress", lambda label, artifact_key: RunProgress(label))
    monkeypatch.setattr("workers.forkserver.start_forkserver", lambda _: None)
    monkeypatch.setattr(segment, "wait", lambda _: None)
    for name in dir(segment):
        if hasattr(getattr(segment, name), "fn"):
            monkeypatch.setattr(segment, name, Plain(getattr(segment, name)))

    def call(*args: object, expect: int = 0) -> Result:
        result = CliRunner().invoke(app, [str(arg) for arg in args])
        assert result.exit_code == expect, (result.output, result.exception)
        return result

    return call


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
