"""Counts are exact under threads, and no display can hold a run up or fail it."""

from __future__ import annotations

import io
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from flows import artifacts, progress
from flows.progress import Counts, RunProgress, refresh_seconds


class Calls:
    """Stands for prefect.artifacts and remembers what it was told."""

    def __init__(self) -> None:
        self.made: list[tuple[str, tuple[Any, ...]]] = []
        self.failure: Exception | None = None
        self.delay = 0.0

    def __getattr__(self, name: str) -> Callable[..., UUID]:
        def call(*arguments: Any, _sync: bool) -> UUID:
            time.sleep(self.delay)
            self.made.append((name, arguments))
            if self.failure is not None:
                raise self.failure
            return uuid4()

        return call

    def names(self) -> list[str]:
        return [name for name, _ in self.made]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    api = Calls()
    monkeypatch.setitem(sys.modules, "prefect.artifacts", api)
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 0.0)
    return api


def test_counts_are_exact_under_threads() -> None:
    run = RunProgress("run")

    def work() -> None:
        for _ in range(1000):
            run.advance("segment", tiles=1, megapixels=0.25, objects=3)
            run.advance(images=1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = run.counts()
    assert dict(counts.tiles_done) == {"segment": 8000}
    assert (counts.images_done, counts.megapixels, counts.objects) == (8000, 2000.0, 24000)


def test_totals_become_known_later() -> None:
    run = RunProgress("run", images_total=2)
    run.expect("label", tiles=10)
    run.expect("label", tiles=5, images=1)
    run.expect("measure", tiles=4)
    run.advance("label", tiles=3)
    counts = run.counts()
    assert dict(counts.tiles_total) == {"label": 15, "measure": 4}
    assert counts.images_total == 3
    assert counts.percent == pytest.approx(100 * 3 / 19)


@pytest.mark.parametrize(
    ("counts", "percent"),
    [
        (Counts(), 0.0),
        (Counts(images_total=4, images_done=1, images_quarantined=1), 50.0),
        (Counts(tiles_total={"a": 2}, tiles_done={"a": 5}), 100.0),
    ],
)
def test_percent(counts: Counts, percent: float) -> None:
    assert counts.percent == percent


def test_text() -> None:
    counts = Counts(
        images_total=9,
        images_done=3,
        images_quarantined=1,
        tiles_total={"segment": 40, "join": 7},
        tiles_done={"segment": 20},
        megapixels=2000.0,
        objects=12345,
        seconds=10.0,
    )
    assert str(counts) == (
        "3/9 images, 1 quarantined, segment 20/40 tiles, join 0/7 tiles, "
        "2,000 Mpx (200.0 Mpx/s), 12,345 objects, about 13.5 s left"
    )


@pytest.mark.parametrize(
    ("seconds", "done", "left"),
    [(9.0, 50, None), (60.0, 1, None), (60.0, 25, 180.0), (60.0, 100, None)],
)
def test_time_left_is_said_once_it_says_something(
    seconds: float, done: int, left: float | None
) -> None:
    counts = Counts(images_total=100, images_done=done, seconds=seconds)
    assert counts.seconds_left == left
    assert ("left" in str(counts)) == (left is not None)


def test_long_runs_are_told_of_less_often() -> None:
    assert [refresh_seconds(x) for x in (0.0, 100.0, 1000.0, 1e6)] == [2.0, 2.0, 10.0, 60.0]


def test_artifact_is_created_once_and_ends_up_to_date(calls: Calls) -> None:
    with RunProgress("run", images_total=2, artifact_key="key") as run:
        time.sleep(0.8)
        run.advance(images=2)
    names = calls.names()
    assert names[0] == "create_progress_artifact"
    assert set(names[1:]) == {"update_progress_artifact"}
    assert calls.made[0][1][1] == "key"
    assert calls.made[-1][1][1] == 100.0


def test_artifact_is_not_refreshed_more_often_than_that(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 60.0)
    with RunProgress("run", artifact_key="key"):
        time.sleep(1.7)
    assert calls.names() == ["create_progress_artifact", "update_progress_artifact"]


def test_summary(calls: Calls) -> None:
    run = RunProgress("run", images_total=1, artifact_key="key")
    run.summary(({"image": name} for name in "ab"), "Labels are in out.zarr.")
    assert calls.made == [
        ("create_table_artifact", ([{"image": "a"}, {"image": "b"}], "key-images", "run")),
        (
            "create_markdown_artifact",
            ("**0/1 images**\n\nLabels are in out.zarr.", "key-summary", "run"),
        ),
    ]
    calls.made.clear()
    run.summary([])
    assert calls.names() == ["create_markdown_artifact"]


def test_dead_server_is_logged_once(calls: Calls, caplog: pytest.LogCaptureFixture) -> None:
    calls.failure = ConnectionError("refused")
    with RunProgress("run", artifact_key="key") as run:
        time.sleep(2.5)
        run.summary([{"image": "a"}])
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "the run goes on: refused" in warnings[0].getMessage()
    assert calls.names().count("create_progress_artifact") == artifacts.FAILURES_BEFORE_SILENCE


def test_slow_server_does_not_block_tiles(calls: Calls) -> None:
    calls.delay = 1.0
    with RunProgress("run", artifact_key="key") as run:
        time.sleep(0.6)  # the thread is inside a call
        began = time.monotonic()
        for _ in range(1000):
            run.advance("segment", tiles=1)
        assert time.monotonic() - began < 0.5


def test_no_key_no_artifacts(calls: Calls) -> None:
    with RunProgress("run") as run:
        time.sleep(0.6)
        run.summary([{"image": "a"}])
    assert calls.made == []


def test_log_lines_without_a_terminal(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.9)
    with caplog.at_level(logging.INFO, "flows.progress"), RunProgress("run", images_total=4) as run:
        run.advance(images=1)
        time.sleep(1.8)
    assert caplog.messages[0] == "run: 25 %, 1/4 images"
    assert caplog.messages[-1].startswith("run: 1/4 images in ")
    assert len(caplog.messages) == 2


def test_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    with RunProgress("plate 7", images_total=2) as run:
        run.advance(images=2)
    shown = terminal.getvalue()
    assert "plate 7" in shown
    assert "2/2 images" in shown
