"""How far a training is: in the terminal, in the log, and as artifacts of the Prefect run."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from flows.artifacts import Artifacts
from flows.progress import LOG_SECONDS, refresh_seconds
from pipeline.report.wording import duration
from pipeline.training.folder import TrainingFolder
from pipeline.training.result import Result
from pipeline.training.state import Row, TrainingState

if TYPE_CHECKING:
    from flows.bar import Bar

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
        key = "".join(c if c.isalnum() and c.isascii() else "-" for c in title.lower())
        self._artifacts = Artifacts(key)
        self._next_line = self._next_update = 0.0
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from flows.bar import Bar

            self._bar = Bar(self._title)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, state: TrainingState, row: Row) -> None:
        """Show a row of the history."""
        percent = 100 * state.step / self._steps
        words = self._words(state, row)
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(percent, words)
        if "validation_loss" in row or (self._bar is None and now >= self._next_line):
            log.info("%s: %.0f %%, %s", self._title, percent, words)
            self._next_line = now + LOG_SECONDS
        if now >= self._next_update:
            self._artifacts.progress(percent, f"{self._title}: {words}")
            self._next_update = time.monotonic() + refresh_seconds(state.seconds)

    def summary(self, state: TrainingState, folder: TrainingFolder, result: Result) -> None:
        """Make the final artifacts: the learning curve as a table, and where everything is."""
        every = max(1, -(-len(state.history) // LISTED))
        last = len(state.history) - 1
        table: list[dict[str, object]] = [
            {key: f"{value:.6g}" for key, value in row.items()}
            for k, row in enumerate(state.history)
            if k % every == 0 or k == last or "validation_loss" in row
        ]
        scores = "\n".join(f"- {name}: {x:.4g}" for name, x in result.card.scores.items())
        text = (
            f"**{self._title}**, {duration(state.seconds)} on {result.card.device}\n\n{scores}\n\n"
            f"Model: `{folder.model}`\n\nReport: `{folder.report}`"
        )
        self._artifacts.table("curve", table, self._title)
        self._artifacts.markdown("summary", text, self._title)

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
