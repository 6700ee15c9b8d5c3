"""Run one function over many batches of tiles, a bounded number of them at a time.

Every batch is answered exactly once, with what the function returned or with the exception that it
raised; failures are data. A worker that dies is Dask's business: the batch runs again elsewhere, up
to the scheduler's `allowed-failures`, so the function must be safe to run twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from queue import Empty, SimpleQueue
from typing import TypeVar

from distributed import CancelledError, Client, Future
from distributed.client import ClosedClientError
from distributed.scheduler import KilledWorker

from pipeline.errors import TilewrightError

log = logging.getLogger(__name__)

B = TypeVar("B")
R = TypeVar("R")

BATCHES_PER_THREAD = 3
"""Default window: one batch runs, two wait, so a thread never idles for a round trip (2-4 ms)."""

REFRESH_SECONDS = 2.0
"""How often the number of threads is asked for, as workers come and go."""

POLL_SECONDS = 0.2
"""How soon `cancelled` is noticed while nothing completes."""

PULL_SECONDS = 0.05
"""A slow source of batches is pulled for this long before what it gave is submitted."""


def never() -> bool:
    """Return False: the run is not cancelled."""
    return False


def run_batches(
    client: Client,
    function: Callable[[B], R],
    batches: Iterable[B],
    *,
    window: int | None = None,
    resources: Mapping[str, float] | None = None,
    cancelled: Callable[[], bool] = never,
) -> Iterator[tuple[B, R | BaseException]]:
    """Run `function` on every batch on the cluster, and yield each with its answer as it completes.

    Futures are released as soon as they are answered: 100,000 held ones cost 0.4-0.7 GiB. Several
    threads may run this on one client. A consumer that stops early cancels what is outstanding,
    except for batches that run already: Dask cannot stop those.

    Parameters
    ----------
    client : Client
        The cluster.
    function : callable
        Takes a batch and returns a small record. Its return value and its exceptions are pickled.
    batches : iterable
        Consumed lazily, at most a window ahead of the answers.
    window : int, optional
        Batches in flight; by default `BATCHES_PER_THREAD` for each thread that the cluster has at
        the moment.
    resources : mapping of str to float, optional
        What a batch occupies on its worker, such as ``{"GPU": 1}``.
    cancelled : callable
        Once it returns True nothing more is submitted or yielded, and the iterator ends.

    Yields
    ------
    batch : B
    answer : R or BaseException
        Exceptions of the function as they were raised; a `TilewrightError` when the batch killed
        too many workers.

    Raises
    ------
    TilewrightError
        The connection to the scheduler is lost.
    """
    source = iter(batches)
    room = _Room(client, window, resources)
    pending: dict[str, tuple[Future, B]] = {}
    done: SimpleQueue[Future] = SimpleQueue()
    exhausted = False
    try:
        while not cancelled():
            free = room.limit() - len(pending)
            if not exhausted and free > 0:
                pulled = _pull(source, free)
                exhausted = not pulled
                _submit(client, function, pulled, resources, pending, done)
            if not pending and exhausted:
                return
            full = exhausted or len(pending) >= room.limit()
            completed = _take(done, POLL_SECONDS if full else 0.0)
            answers = _answers(client, completed, pending)
            del completed
            yield from answers
    finally:
        _drop(client, pending)


def run_serially(
    function: Callable[[B], R],
    batches: Iterable[B],
    *,
    cancelled: Callable[[], bool] = never,
) -> Iterator[tuple[B, R | BaseException]]:
    """Run `function` on every batch in this process, in order: the contract of `run_batches`."""
    for batch in batches:
        if cancelled():
            return
        answer: R | BaseException
        try:
            answer = function(batch)
        except Exception as error:
            log.debug("batch %s failed", _short(batch), exc_info=error)
            answer = error
        yield batch, answer


class _Room:
    """How many batches may be in flight: given, or a multiple of the cluster's threads."""

    def __init__(
        self, client: Client, window: int | None, resources: Mapping[str, float] | None
    ) -> None:
        if window is not None and window < 1:
            raise TilewrightError(f"The window is {window}: at least 1 batch must be in flight.")
        self._client = client
        self._window = window
        self._resources = resources
        self._limit = window or 0
        self._asked = float("-inf")

    def limit(self) -> int:
        """Return the bound, at most `REFRESH_SECONDS` old."""
        now = time.monotonic()
        if self._window is None and now - self._asked > REFRESH_SECONDS:
            # Without any worker yet, a few batches wait at the scheduler and make it scale up.
            slots = max(1, _slots(self._client, self._resources))
            self._limit = BATCHES_PER_THREAD * slots
            self._asked = now
        return self._limit


def _slots(client: Client, resources: Mapping[str, float] | None) -> int:
    """Count the batches that the cluster can run at the same time."""
    try:
        if not resources:
            return sum(client.nthreads().values())
        workers = client.scheduler_info()["workers"].values()
    except (OSError, TimeoutError) as error:
        raise _lost(client) from error
    return sum(
        min(
            int(worker["nthreads"]),
            *(int(worker["resources"].get(name, 0) // need) for name, need in resources.items()),
        )
        for worker in workers
    )


def _pull(source: Iterator[B], count: int) -> list[B]:
    """Take up to `count` batches, fewer if they come slowly; none only at the end."""
    pulled: list[B] = []
    deadline = time.monotonic() + PULL_SECONDS
    for batch in islice(source, count):
        pulled.append(batch)
        if time.monotonic() > deadline:
            break
    return pulled


def _submit(
    client: Client,
    function: Callable[[B], R],
    batches: list[B],
    resources: Mapping[str, float] | None,
    pending: dict[str, tuple[Future, B]],
    done: SimpleQueue[Future],
) -> None:
    """Submit batches in one message; each future goes to `done` when it completes."""
    if not batches:
        return
    # pure=False: Dask would hash every argument to recognise repeated work. retries=0: an
    # exception is an answer, and only the death of a worker is tried again.
    wanted = dict(resources) if resources else None
    try:
        futures = client.map(function, batches, pure=False, retries=0, resources=wanted)
    except ClosedClientError as error:
        raise _lost(client) from error
    for future, batch in zip(futures, batches, strict=True):
        pending[future.key] = future, batch
        future.add_done_callback(done.put)


def _take(done: SimpleQueue[Future], timeout: float) -> list[Future]:
    """Return all completed futures, after waiting for the first one."""
    completed: list[Future] = []
    with suppress(Empty):
        completed.append(done.get(timeout=timeout) if timeout else done.get_nowait())
        while True:
            completed.append(done.get_nowait())
    return completed


def _answers(
    client: Client, completed: list[Future], pending: dict[str, tuple[Future, B]]
) -> list[tuple[B, R | BaseException]]:
    """Fetch the results of completed futures, release them and pair them with their batches."""
    if not completed:
        return []
    batches = [pending.pop(future.key)[1] for future in completed]
    values = _gather(client, completed, batches)
    for future in completed:
        future.release()
    return list(zip(batches, values, strict=True))


def _gather(client: Client, completed: list[Future], batches: list[B]) -> list[R | BaseException]:
    """Fetch results in one round trip; one by one only when a result got lost meanwhile."""
    finished = [future for future in completed if future.status == "finished"]
    try:
        results = iter(client.gather(finished))
    except Exception:
        return [_fetch(client, *pair) for pair in zip(completed, batches, strict=True)]
    kept = {future.key for future in finished}
    return [
        next(results) if future.key in kept else _fetch(client, future, batch)
        for future, batch in zip(completed, batches, strict=True)
    ]


def _fetch(client: Client, future: Future, batch: B) -> R | BaseException:
    """Return the result or the exception of one completed future."""
    try:
        result: R = future.result()
    except (CancelledError, TimeoutError, OSError) as error:
        if future.status in ("cancelled", "lost") or client.status != "running":
            raise _lost(client) from error
        return _failed(batch, error)
    except Exception as error:
        return _failed(batch, error)
    return result


def _failed(batch: object, error: Exception) -> BaseException:
    """Log the remote traceback, which Dask attaches, and put KilledWorker into plain words."""
    log.debug("batch %s failed", _short(batch), exc_info=error)
    if not isinstance(error, KilledWorker):
        return error
    deaths = error.allowed_failures + 1
    message = TilewrightError(
        f"Batch {_short(batch)}: the worker process died {deaths} times while it computed this "
        "batch, most likely because memory ran out. Use fewer workers, or smaller tiles."
    )
    message.__cause__ = error
    return message


def _lost(client: Client) -> TilewrightError:
    """Return the error for a scheduler that went away."""
    address = client.scheduler.address if client.scheduler is not None else "unknown address"
    return TilewrightError(
        f"{address}: the connection to the Dask scheduler is lost. Run the same command again: "
        "finished tiles are kept."
    )


def _drop(client: Client, pending: dict[str, tuple[Future, B]]) -> None:
    """Cancel what is outstanding; nobody waits for it."""
    if not pending:
        return
    with suppress(Exception):  # the client may be closed by now
        client.cancel([future for future, _ in pending.values()])
    pending.clear()


def _short(batch: object) -> str:
    """Describe a batch in at most 200 characters."""
    text = repr(batch)
    return text if len(text) <= 200 else f"{text[:197]}..."
