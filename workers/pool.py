"""Processes for small work that needs no cluster: started only when it takes long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from types import TracebackType
from typing import Self, TypeVar

from pipeline.errors import ClusterError
from workers.forkserver import start_forkserver

A = TypeVar("A")
B = TypeVar("B")

#: Seconds of work that are done in this process before others are started: they take as long.
HERE_SECONDS = 2.0


class Pool:
    """This process, and others when it has worked for `HERE_SECONDS`.

    Parameters
    ----------
    workers : int
        Processes; 1 is this one alone.
    preload : sequence of str
        Modules that orders need.
    """

    def __init__(self, workers: int, preload: Sequence[str]) -> None:
        self._workers, self._preload = workers, preload
        self._executor: ProcessPoolExecutor | None = None
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    def map(self, function: Callable[[A], B], orders: Iterable[A], at_once: int = 1) -> Iterator[B]:
        """Call a function for every order, in their order.

        Parameters
        ----------
        function : callable
            Of a module, so that it can be named to other processes; so must its errors.
        orders : iterable
        at_once : int
            Orders that a process is given together.

        Raises
        ------
        ClusterError
            A process died.
        """
        waiting = iter(orders)
        for order in waiting:
            yield function(order)
            if self._workers > 1 and time.monotonic() - self._began > HERE_SECONDS:
                break
        rest = list(waiting)
        if not rest:
            return
        try:
            yield from self._others().map(function, rest, chunksize=at_once)
        except BrokenProcessPool as error:
            raise ClusterError(
                "A worker process died, most likely for lack of memory. Try fewer --workers, or "
                "a smaller --tile."
            ) from error

    def _others(self) -> ProcessPoolExecutor:
        if self._executor is None:
            start_forkserver(self._preload)
            context = get_context("forkserver")
            self._executor = ProcessPoolExecutor(self._workers, context)
        return self._executor
