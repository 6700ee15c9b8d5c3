"""How far a training is: in the terminal, in the log, and as artifacts of the Prefect run."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast
from uuid import UUID

from flows.progress import FAILURES_BEFORE_SILENCE, LOG_SECONDS, REFRESH_SECONDS
from pipeline.report.wording import duration
from pipeline.training.folder import TrainingFolder
from pipeline.training.result import Result
from pipeline.training.state import Row, TrainingState

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

log = logging.getLogger(__name__)

#: Rows of the learning curve that Prefect gets: it keeps them as one JSON value.
LISTED = 100


class TrainingProgress:
    """Display of one training; a context manager, entered inside the flow run.

    Parameters
    ----------
    title : str
    steps : int
        In all.
    """

    def __init__(self, title: str, steps: int) -> None:
        self._title, self._steps = title, steps
        self._key = "".join(c if c.isalnum() and c.isascii() else "-" for c in title.lower())
        self._id: UUID | None = None
        self._failures = 0
        self._next_line = self._next_update = 0.0
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._open_bar()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            with suppress(OSError):  # the terminal is gone
                self._bar.stop()

    def advance(self, state: TrainingState, row: Row) -> None:
        """Show a row of the history."""
        percent = 100 * state.step / self._steps
        words = self._words(state, row)
        now = time.monotonic()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=percent, words=words)
        if "validation_loss" in row or (self._bar is None and now >= self._next_line):
            log.info("%s: %.0f %%, %s", self._title, percent, words)
            self._next_line = now + LOG_SECONDS
        if now >= self._next_update and self._failures < FAILURES_BEFORE_SILENCE:
            self._try(lambda: self._send(percent, f"{self._title}: {words}"))
            self._next_update = time.monotonic() + REFRESH_SECONDS

    def summary(self, state: TrainingState, folder: TrainingFolder, result: Result) -> None:
        """Make the final artifacts: the learning curve as a table, and where everything is."""
        from prefect.artifacts import create_markdown_artifact, create_table_artifact

        every = max(1, -(-len(state.history) // LISTED))
        last = len(state.history) - 1
        table = [
            {key: f"{value:.6g}" for key, value in row.items()}
            for k, row in enumerate(state.history)
            if k % every == 0 or k == last or "validation_loss" in row
        ]
        scores = "\n".join(f"- {name}: {x:.4g}" for name, x in result.card.scores.items())
        text = (
            f"**{self._title}**, {duration(state.seconds)} on {result.card.device}\n\n{scores}\n\n"
            f"Model: `{folder.model}`\n\nReport: `{folder.report}`"
        )
        self._try(
            lambda: create_table_artifact(table, f"{self._key}-curve", self._title, _sync=True)  # type: ignore[call-arg]
        )
        self._try(
            lambda: create_markdown_artifact(text, f"{self._key}-summary", self._title, _sync=True)  # type: ignore[call-arg]
        )

    def _words(self, state: TrainingState, row: Row) -> str:
        parts = [f"step {state.step}/{self._steps}", f"loss {row['loss']:.3f}"]
        parts += [
            f"{name.replace('_', ' ')} {value:.3f}"
            for name, value in row.items()
            if name.startswith("validation_")
        ]
        if state.step:
            left = state.seconds / state.step * (self._steps - state.step)
            parts.append(f"{duration(left)} left")
        return ", ".join(parts)

    def _send(self, percent: float, description: str) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        if self._id is None:
            created = create_progress_artifact(percent, self._key, description, _sync=True)  # type: ignore[call-arg]
            self._id = cast("UUID", created)
        else:
            update_progress_artifact(self._id, percent, description, _sync=True)  # type: ignore[call-arg]

    def _try(self, call: Callable[[], object]) -> None:
        """Call the API; a server that is gone costs the artifacts, not the training."""
        try:
            call()
        except Exception as error:  # httpx's, Prefect's and pydantic's have no common base
            self._failures += 1
            if self._failures == 1:
                log.warning("Prefect does not take progress, the training goes on: %s", error)
        else:
            self._failures = 0

    def _open_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[words]}"),
            console=Console(stderr=True),
            refresh_per_second=2,
        )
        self._task = self._bar.add_task(self._title, total=100.0, words="")
        self._bar.start()
