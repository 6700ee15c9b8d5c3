"""Work on a cluster that can be told to end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.errors import ClusterError


class StoppableSubmit:
    """Runs functions over batches until it is stopped; may be called by several threads.

    Parameters
    ----------
    submit : callable
        Such as `workers.submit.run_batches` for one cluster: takes ``cancelled``, and ends early
        when that returns True.
    """

    def __init__(self, submit: Callable[..., Iterator[tuple[Any, Any]]]) -> None:
        self._submit = submit
        self._stopped = threading.Event()
        self._changed = threading.Condition()
        self._askers = 0

    def __call__(
        self, function: Callable[[Any], Any], batches: Iterable[Any]
    ) -> Iterator[tuple[Any, Any]]:
        """Yield each batch with its answer.

        Raises
        ------
        ClusterError
            When it was stopped.
        """
        with self._asking():
            yield from self._submit(function, batches, cancelled=self._stopped.is_set)
        if self._stopped.is_set():
            raise ClusterError(
                "The run was stopped. Run it again to continue: what is finished is kept."
            )

    def stop(self, seconds: float) -> None:
        """Ask the cluster for nothing more, and wait until no thread waits for its answers.

        An answer that is waited for never comes once the connection is closed.
        """
        self._stopped.set()
        with self._changed:
            self._changed.wait_for(lambda: self._askers == 0, seconds)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        with self._changed:
            self._askers += 1
        try:
            yield
        finally:
            with self._changed:
                self._askers -= 1
                self._changed.notify_all()
