"""Artifacts of a Prefect run that goes on; a server that is gone costs them, not the run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import cast
from uuid import UUID

log = logging.getLogger(__name__)

FAILURES_BEFORE_SILENCE = 3
"""After so many failed calls in a row the progress is left alone."""


class Artifacts:
    """The artifacts of one run; a dead server is logged once and then left alone.

    Parameters
    ----------
    key : str
        Lower case, digits and dashes.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._id: UUID | None = None
        self._failures = 0

    def progress(self, percent: float, description: str) -> None:
        """Create or refresh the progress artifact."""
        if self._failures < FAILURES_BEFORE_SILENCE:
            self._try(lambda: self._send(percent, description))

    def table(self, name: str, rows: list[dict[str, object]], title: str) -> None:
        """Create a table."""
        from prefect.artifacts import create_table_artifact

        self._try(
            lambda: create_table_artifact(rows, f"{self._key}-{name}", title, _sync=True)  # type: ignore[call-arg]
        )

    def markdown(self, name: str, text: str, title: str) -> None:
        """Create a text."""
        from prefect.artifacts import create_markdown_artifact

        self._try(
            lambda: create_markdown_artifact(text, f"{self._key}-{name}", title, _sync=True)  # type: ignore[call-arg]
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
