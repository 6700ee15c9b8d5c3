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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Self

from flows.artifacts import Artifacts

if TYPE_CHECKING:
    from flows.bar import Bar

log = logging.getLogger(__name__)

REFRESH_SECONDS = 2.0
"""Least time between two updates of the artifact: 100 runs beside each other are 1 core then."""

MOST_SECONDS, PART = 60.0, 0.01
"""Most time between two updates: a hundredth of the run so far. Each leaves an event of 5 kB."""

LOG_SECONDS = 10.0
"""Time between two log lines without a terminal."""

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
        self._artifacts = Artifacts(artifact_key) if artifact_key else None
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        if sys.stderr.isatty():
            from flows.bar import Bar

            self._bar = Bar(self._title)
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
            self._bar.update(counts.percent, str(counts))
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
            if table := [dict(row) for row in rows]:
                self._artifacts.table("images", table, self._title)
            text = f"**{self.counts()}**\n\n{note}".strip()
            self._artifacts.markdown("summary", text, self._title)

    def _show(self) -> None:
        """Refresh the displays until the run ends (body of the thread)."""
        next_line = next_update = time.monotonic()
        last = False
        while not last:
            last = self._ended.wait(0.5)
            counts, now = self.counts(), time.monotonic()
            if self._bar is not None:
                self._bar.update(counts.percent, str(counts))
            elif now >= next_line + LOG_SECONDS:
                log.info("%s: %.0f %%, %s", self._title, counts.percent, counts)
                next_line = now
            if self._artifacts is not None and (last or now >= next_update):
                self._artifacts.progress(counts.percent, f"{self._title}: {counts}")
                next_update = time.monotonic() + refresh_seconds(counts.seconds)


def refresh_seconds(run_seconds: float) -> float:
    """Time until the next update of the artifact of a run that goes on for so long."""
    return max(REFRESH_SECONDS, min(PART * run_seconds, MOST_SECONDS))


def _added(before: Mapping[str, int], stage: str | None, tiles: int) -> Mapping[str, int]:
    """Return the mapping with `tiles` more at `stage`."""
    if stage is None or (not tiles and stage in before):
        return before
    return MappingProxyType({**before, stage: before.get(stage, 0) + tiles})
