"""A thread that works ahead, and one that works behind: bounded, and errors come out."""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

_END: Any = object()


@contextmanager
def ahead(source: Iterable[T], count: int) -> Iterator[Iterator[T]]:
    """Draw from a source in a thread, at most `count` items ahead of the consumer.

    An error of the source is raised where its item would have come. When the context ends, the
    thread ends with the item that it is at.
    """
    items = iter(source)

    def following() -> T:
        return next(items, _END)

    context = contextvars.copy_context()
    with _one_thread("ahead") as thread:

        def draw() -> Future[T]:
            return thread.submit(context.run, following)

        def drawn() -> Iterator[T]:
            waiting = deque(draw() for _ in range(count))
            while (item := waiting.popleft().result()) is not _END:
                waiting.append(draw())
                yield item

        yield drawn()


@contextmanager
def behind(work: Callable[[T], None], count: int) -> Iterator[Callable[[T], None]]:
    """Work on items in a thread, in their order; at most `count` wait.

    What is given hands an item over, and raises what the work on an earlier one raised. All is done
    when the context ends; if it ends by an error, what waits is dropped.
    """
    context = contextvars.copy_context()
    waiting: deque[Future[None]] = deque()
    with _one_thread("behind") as thread:

        def put(item: T) -> None:
            while len(waiting) > count:  # one of them is worked on
                waiting.popleft().result()
            waiting.append(thread.submit(context.run, work, item))

        yield put
        while waiting:
            waiting.popleft().result()


@contextmanager
def _one_thread(name: str) -> Iterator[ThreadPoolExecutor]:
    thread = ThreadPoolExecutor(1, f"tilewright-{name}")
    try:
        yield thread
    finally:
        thread.shutdown(cancel_futures=True)
