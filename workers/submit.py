"""Run one function over many batches of tiles, a bounded number of them at a time.

Every batch is answered exactly once, with what the function returned or with the exception that it
raised; failures are data. A worker that dies is Dask's business: the batch runs again elsewhere, up
to the scheduler's `allowed-failures`, so the function must be safe to run twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice
from queue import Empty, SimpleQueue
from typing import TypeVar

from distributed import CancelledError, Client, Future
from distributed.client import ClosedClientError
from distributed.scheduler import KilledWorker, NoValidWorkerError, NoWorkerError

from pipeline.errors import ClusterError, TilewrightError
from workers.place import GPU, OnGpu, Place, find_place, wants_gpu

log = logging.getLogger(__name__)

B = TypeVar("B")
R = TypeVar("R")

BATCHES_PER_THREAD = 3
"""Default window: one batch runs, two wait, so a thread never idles for a round trip (2-4 ms)."""

REFRESH_SECONDS = 2.0
"""How often the number of threads is asked for, as workers come and go."""

POLL_SECONDS = 0.2
"""How soon `cancelled` is noticed while nothing completes."""

NO_WORKERS_SECONDS = 120.0
"""How long batches for a GPU wait for a worker that has one: Dask restarts dead ones in 2 s."""

_NO_GPU = (
    f"No worker with a GPU has been there for {NO_WORKERS_SECONDS:.0f} s. This run computes on "
    "GPUs, and does not change to CPUs half way: their results differ in the last digits. "
    "Start a GPU worker and run the same command again: what is finished is kept."
)

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
    use_gpus: bool = False,
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
        the moment, or one where only some workers will do: a batch that waits at such a worker is
        blamed with the others when it dies.
    use_gpus : bool
        Batches that say ``wants_gpu`` go to workers that have a GPU, and to no others. Those of one
        call are of a kind: the first speaks for all.
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
    ClusterError
        The connection to the scheduler is lost, or no worker has had a GPU for
        `NO_WORKERS_SECONDS`.
    """
    source = iter(batches)
    first = list(islice(source, 1))
    if not first or cancelled():
        return
    source = chain(first, source)
    on_gpu = use_gpus and wants_gpu(first[0])
    work = OnGpu(function) if on_gpu else function
    room = _Room(client, window, on_gpu)
    pending: dict[str, tuple[Future, B]] = {}
    done: SimpleQueue[Future] = SimpleQueue()
    exhausted = False
    try:
        while not cancelled():
            free = room.limit() - len(pending)
            if not exhausted and free > 0:
                pulled = _pull(source, free)
                exhausted = not pulled
                _submit(client, work, pulled, room.place, pending, done)
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
    """Where batches go, and how many may be in flight: given, or by what the workers can run."""

    def __init__(self, client: Client, window: int | None, on_gpu: bool) -> None:
        if window is not None and window < 1:
            raise TilewrightError(f"The window is {window}: at least 1 batch must be in flight.")
        self._client = client
        self._window = window
        self._on_gpu = on_gpu
        self.place = Place(None, 0)
        self._asked = float("-inf")
        self._seen = time.monotonic()

    def limit(self) -> int:
        """Return the bound, at most `REFRESH_SECONDS` old."""
        now = time.monotonic()
        if now - self._asked > REFRESH_SECONDS:
            self.place = self._look()
            self._asked = now
            if self.place.slots or not self._on_gpu:
                self._seen = now
            elif now - self._seen > NO_WORKERS_SECONDS:
                raise ClusterError(_NO_GPU)
        if self._window is not None:
            return self._window
        # Without any worker yet, a few batches wait at the scheduler and make it scale up.
        slots = max(1, self.place.slots)
        return slots if self.place.resources else BATCHES_PER_THREAD * slots

    def _look(self) -> Place:
        try:
            return find_place(self._client, self._on_gpu)
        except (OSError, TimeoutError) as error:
            raise _lost(self._client) from error


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
    place: Place,
    pending: dict[str, tuple[Future, B]],
    done: SimpleQueue[Future],
) -> None:
    """Submit batches in one message; each future goes to `done` when it completes."""
    if not batches:
        return
    # pure=False: Dask would hash every argument to recognise repeated work. retries=0: an
    # exception is an answer, and only the death of a worker is tried again.
    wanted = dict(place.resources) if place.resources else None
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
    if isinstance(error, NoValidWorkerError | NoWorkerError):
        return _no_worker(error)
    if not isinstance(error, KilledWorker):
        return error
    deaths = error.allowed_failures + 1
    message = TilewrightError(
        f"Batch {_short(batch)}: the worker process died {deaths} times while it computed this "
        "batch, most likely because memory ran out. Use fewer workers, or smaller tiles."
    )
    message.__cause__ = error
    return message


def _no_worker(error: NoValidWorkerError | NoWorkerError) -> ClusterError:
    """Put the scheduler's own time-out into plain words."""
    if isinstance(error, NoValidWorkerError) and GPU.keys() & error.resource_restrictions.keys():
        return ClusterError(_NO_GPU)
    return ClusterError(
        f"No worker has been there for {error.timeout:.0f} s. Start workers and run the same "
        "command again: what is finished is kept."
    )


def _lost(client: Client) -> ClusterError:
    """Return the error for a scheduler that went away."""
    address = client.scheduler.address if client.scheduler is not None else "unknown address"
    return ClusterError(
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
