"""How far a run is: in the terminal, in the log, and as artifacts of the Prefect run.

`RunProgress.advance` only adds numbers under a lock (1 µs). A background thread shows them: a rich
bar on a terminal, else a log line every 10 s, and one progress artifact of the run. An update of
the artifact is 17 ms of HTTP, and for ever when the server is gone, so it never runs in a thread
that handles tiles.
"""

from __future__ import annotations

import contextvars
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Self, cast
from uuid import UUID

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

log = logging.getLogger(__name__)

REFRESH_SECONDS = 2.0
"""Least time between two updates of the artifact: 100 runs beside each other are 1 core then."""

MOST_SECONDS, PART = 60.0, 0.01
"""Most time between two updates: a hundredth of the run so far. Each leaves an event of 5 kB."""

LOG_SECONDS = 10.0
"""Time between two log lines without a terminal."""

FAILURES_BEFORE_SILENCE = 3
"""After so many failed calls in a row the API is left alone until `RunProgress.summary`."""


LEAST_SECONDS, LEAST_PART = 10.0, 0.02
"""How long, and how far, a run must be before it says how long it will take."""


@dataclass(frozen=True)
class Counts:
    """State of a run at one moment.

    Attributes
    ----------
    tiles_done, tiles_total : mapping of str to int
        By stage, in the order in which stages were first named.
    """

    images_total: int = 0
    images_done: int = 0
    images_quarantined: int = 0
    tiles_done: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    tiles_total: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    megapixels: float = 0.0
    objects: int = 0
    seconds: float = 0.0

    @property
    def percent(self) -> float:
        """Finished part of all tiles known so far, of all images while there are no tiles."""
        done, total = sum(self.tiles_done.values()), sum(self.tiles_total.values())
        if not total:
            done, total = self.images_done + self.images_quarantined, self.images_total
        return min(100.0, 100.0 * done / total) if total else 0.0

    @property
    def seconds_left(self) -> float | None:
        """What is left at the mean speed so far; None while that says little."""
        done = self.percent / 100
        if self.seconds < LEAST_SECONDS or not LEAST_PART <= done < 1:
            return None
        return self.seconds * (1 - done) / done

    def __str__(self) -> str:
        parts = [f"{self.images_done}/{self.images_total} images"]
        if self.images_quarantined:
            parts.append(f"{self.images_quarantined} quarantined")
        parts += [
            f"{stage} {self.tiles_done.get(stage, 0)}/{total} tiles"
            for stage, total in self.tiles_total.items()
        ]
        if self.megapixels:
            speed = self.megapixels / self.seconds if self.seconds else 0.0
            parts.append(f"{self.megapixels:,.0f} Mpx ({speed:.1f} Mpx/s)")
        if self.objects:
            parts.append(f"{self.objects:,} objects")
        if (left := self.seconds_left) is not None:
            from pipeline.report.wording import duration  # with Pillow, late

            parts.append(f"about {duration(left)} left")
        return ", ".join(parts)


class RunProgress:
    """Counts of one run and their display; a context manager, safe for threads.

    Enter it inside the flow run, so that its artifacts belong to the run.

    Parameters
    ----------
    title : str
        Name of the run, for people.
    images_total : int
        Images of the request; more can be added by `expect`.
    artifact_key : str, optional
        Key of the artifacts: lower case, digits and dashes. None makes no artifacts.
    """

    def __init__(
        self, title: str, *, images_total: int = 0, artifact_key: str | None = None
    ) -> None:
        self._title = title
        self._lock = threading.Lock()
        self._counts = Counts(images_total=images_total)
        self._started = time.monotonic()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._context: contextvars.Context | None = None
        self._artifacts = _Artifacts(artifact_key) if artifact_key else None
        self._bar: _Bar | None = None

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        if sys.stderr.isatty():
            self._bar = _Bar(self._title)
        # The flow run is a context variable: without the copy an artifact belongs to no run.
        self._context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=self._context.run, args=(self._show,), name="progress", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            # A hung server must not hold a finished run up; the thread is a daemon.
            self._thread.join(timeout=5.0)
        counts = self.counts()
        if self._bar is not None:
            self._bar.update(counts)
            self._bar.close()
        log.info("%s: %s in %.0f s", self._title, counts, counts.seconds)

    def expect(self, stage: str | None = None, *, tiles: int = 0, images: int = 0) -> None:
        """Add work that has become known."""
        with self._lock:
            counts = self._counts
            totals = _added(counts.tiles_total, stage, tiles)
            self._counts = replace(
                counts, images_total=counts.images_total + images, tiles_total=totals
            )

    def advance(
        self,
        stage: str | None = None,
        *,
        tiles: int = 0,
        images: int = 0,
        quarantined: int = 0,
        megapixels: float = 0.0,
        objects: int = 0,
    ) -> None:
        """Add work that is done.

        Parameters
        ----------
        stage : str, optional
            Stage of the `tiles`.
        tiles, images, quarantined, objects : int
            How many more; `objects` may be negative, when objects of two tiles are joined.
        megapixels : float
            How many more million pixels or voxels.
        """
        with self._lock:
            counts = self._counts
            self._counts = replace(
                counts,
                images_done=counts.images_done + images,
                images_quarantined=counts.images_quarantined + quarantined,
                tiles_done=_added(counts.tiles_done, stage, tiles),
                megapixels=counts.megapixels + megapixels,
                objects=counts.objects + objects,
            )

    def counts(self) -> Counts:
        """Return the state now."""
        with self._lock:
            return replace(self._counts, seconds=time.monotonic() - self._started)

    def summary(self, rows: Iterable[Mapping[str, object]], note: str = "") -> None:
        """Make the final artifacts: a table of `rows`, and the counts with a `note` in Markdown.

        Call it in the flow, as its last act. A server that is gone costs the artifacts, not the
        run.
        """
        if self._artifacts is not None:
            table = [dict(row) for row in rows]
            self._artifacts.finish(self._title, table, f"**{self.counts()}**\n\n{note}".strip())

    def _show(self) -> None:
        """Refresh the displays until the run ends (body of the thread)."""
        next_line = next_update = time.monotonic()
        last = False
        while not last:
            last = self._ended.wait(0.5)
            counts, now = self.counts(), time.monotonic()
            if self._bar is not None:
                self._bar.update(counts)
            elif now >= next_line + LOG_SECONDS:
                log.info("%s: %.0f %%, %s", self._title, counts.percent, counts)
                next_line = now
            if self._artifacts is not None and (last or now >= next_update):
                self._artifacts.update(self._title, counts)
                next_update = time.monotonic() + refresh_seconds(counts.seconds)


def refresh_seconds(run_seconds: float) -> float:
    """Time until the next update of the artifact of a run that goes on for so long."""
    return max(REFRESH_SECONDS, min(PART * run_seconds, MOST_SECONDS))


class _Artifacts:
    """The Prefect artifacts of a run; a dead server is logged once and then left alone."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._id: UUID | None = None
        self._failures = 0

    def update(self, title: str, counts: Counts) -> None:
        """Create or refresh the progress artifact."""
        if self._failures < FAILURES_BEFORE_SILENCE:
            self._try(lambda: self._send(counts.percent, f"{title}: {counts}"))

    def finish(self, title: str, rows: list[dict[str, object]], text: str) -> None:
        """Create the table, if there are rows, and the text."""
        from prefect.artifacts import create_markdown_artifact, create_table_artifact

        if rows:
            self._try(
                lambda: create_table_artifact(rows, f"{self._key}-images", title, _sync=True)  # type: ignore[call-arg]
            )
        self._try(
            lambda: create_markdown_artifact(text, f"{self._key}-summary", title, _sync=True)  # type: ignore[call-arg]
        )

    def _send(self, percent: float, description: str) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        # The flow may be async, this thread is not: without _sync Prefect returns a coroutine.
        if self._id is None:
            created = create_progress_artifact(percent, self._key, description, _sync=True)  # type: ignore[call-arg]
            self._id = cast("UUID", created)
        else:
            update_progress_artifact(self._id, percent, description, _sync=True)  # type: ignore[call-arg]

    def _try(self, call: Callable[[], object]) -> None:
        """Call the API; log the first of a row of failures."""
        try:
            call()
        except Exception as error:  # httpx's, Prefect's and pydantic's have no common base
            self._failures += 1
            if self._failures == 1:
                log.warning("Prefect does not take progress, the run goes on: %s", error)
        else:
            self._failures = 0


class _Bar:
    """A line at the bottom of the terminal."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress: Progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[counts]}"),
            console=Console(stderr=True),
            refresh_per_second=2,
        )
        self._task: TaskID = self._progress.add_task(title, total=100.0, counts="")
        self._progress.start()

    def update(self, counts: Counts) -> None:
        """Show the counts."""
        self._progress.update(self._task, completed=counts.percent, counts=str(counts))

    def close(self) -> None:
        """Leave the last state on the terminal."""
        with suppress(OSError):  # the terminal is gone
            self._progress.stop()


def _added(before: Mapping[str, int], stage: str | None, tiles: int) -> Mapping[str, int]:
    """Return the mapping with `tiles` more at `stage`."""
    if stage is None or (not tiles and stage in before):
        return before
    return MappingProxyType({**before, stage: before.get(stage, 0) + tiles})
