"""A line at the bottom of the terminal."""

from __future__ import annotations

from contextlib import suppress

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


class Bar:
    """How far something is, and a few words.

    Parameters
    ----------
    title : str
    """

    def __init__(self, title: str) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[words]}"),
            console=Console(stderr=True),
            refresh_per_second=2,
        )
        self._task = self._progress.add_task(title, total=100.0, words="")
        self._progress.start()

    def update(self, percent: float, words: str) -> None:
        """Show this from now on."""
        self._progress.update(self._task, completed=percent, words=words)

    def close(self) -> None:
        """Leave the last state on the terminal."""
        with suppress(OSError):  # the terminal is gone
            self._progress.stop()
