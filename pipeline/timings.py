"""Seconds of the stages that a window goes through."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timings:
    """What a task took; stages overlap, so that their sum may exceed `wall_s`.

    Parameters
    ----------
    read_s, copy_s, compute_s, decode_s, write_s : float
        Reading windows, copies to and from the device, the network, what is made of its outputs,
        writing that.
    wall_s : float
    windows, batches, halvings : int
        Windows and batches computed, and how often a batch was halved for lack of memory.
    """

    read_s: float = 0.0
    copy_s: float = 0.0
    compute_s: float = 0.0
    decode_s: float = 0.0
    write_s: float = 0.0
    wall_s: float = 0.0
    windows: int = 0
    batches: int = 0
    halvings: int = 0

    def __add__(self, other: Timings) -> Timings:
        names = (one.name for one in fields(self))
        return Timings(**{name: getattr(self, name) + getattr(other, name) for name in names})


@dataclass
class Stopwatch:
    """Adds up what several threads take."""

    _seconds: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Count the time inside for a stage."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage + "_s", time.perf_counter() - begun)

    def add(self, name: str, amount: float) -> None:
        """Count for a field of `Timings`."""
        with self._lock:
            self._seconds[name] += amount  # type: ignore[assignment]

    def timings(self) -> Timings:
        """What was counted so far."""
        found: Mapping[str, float] = dict(self._seconds)
        return Timings(**found)  # type: ignore[arg-type]


_listeners: ContextVar[list[Timings] | None] = ContextVar("listeners", default=None)


def report(timings: Timings) -> None:
    """Say what a task took, to the log and to who listens: it is no result."""
    log.debug("%s", timings)
    heard = _listeners.get()
    if heard is not None:
        heard.append(timings)


@contextmanager
def listening() -> Iterator[list[Timings]]:
    """Hear what tasks report that run in this context, for benchmarks."""
    heard: list[Timings] = []
    token = _listeners.set(heard)
    try:
        yield heard
    finally:
        _listeners.reset(token)
