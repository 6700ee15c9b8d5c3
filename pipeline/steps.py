"""Steps of the work on one image: orders are performed, and a ledger remembers what is done.

A step that was done before, or a part of it, is not done again: its receipts tell what it left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pipeline.job import ImageJob
from pipeline.ledger import Ledger, pending
from pipeline.methods.base import State
from pipeline.orders import CoarseOrder, Order, Receipt, Shared
from pipeline.pyramid import Pyramid
from pipeline.records import save
from pipeline.storage import path_of

#: Performs orders in any order, several at once, and hands back each with its receipt or error.
Executor = Callable[[Iterable[Order]], Iterator[tuple[Order, Receipt | BaseException]]]
#: Told of every finished order: step, tiles, pixels.
Watcher = Callable[[str, int, int], None]
#: Puts the tiles or shards that are left into orders.
Batches = Callable[[Sequence[int]], Iterator[tuple[int, ...]]]
#: Makes the order for some tiles or shards.
Ordered = Callable[[tuple[int, ...]], Order]

#: States above this many bytes travel by file.
LARGE_STATE = 2**16


def perform_here(orders: Iterable[Order]) -> Iterator[tuple[Order, Receipt | BaseException]]:
    """The executor of one process."""
    for order in orders:
        yield order, order.perform()


@dataclass
class Steps:
    """Does the steps of one image.

    Parameters
    ----------
    work : str
        Folder for records and states, where the ledger is persistent.
    execute : Executor
    ledger : Ledger
    batch_tiles : int
        Tiles or shards an order.
    watch : Watcher
    """

    work: str
    execute: Executor
    ledger: Ledger
    batch_tiles: int = 1
    watch: Watcher = lambda step, tiles, pixels: None
    #: Wall time of each step.
    seconds: dict[str, float] = field(default_factory=dict)
    #: Largest resident size of a worker that took part.
    peak_bytes: int = 0

    def do(
        self, step: str, numbers: Iterable[int], order: Ordered, batches: Batches | None = None
    ) -> list[Receipt]:
        """Perform the orders of all tiles or shards that are not done; returns all receipts."""
        done = self.ledger.receipts(step)
        self.watch(step, sum(len(receipt.numbers) for receipt in done), 0)
        todo = pending(numbers, done)
        orders = (order(some) for some in (batches or self._batches)(todo))
        return [*done, *self._perform(step, orders)]

    def write_pyramid(
        self,
        step: str,
        job: ImageJob,
        pyramid: Pyramid,
        order: Ordered,
        batches: Batches | None = None,
    ) -> tuple[list[Receipt], list[str]]:
        """Write all shards of a pyramid, then its coarse levels; returns their digests, too."""
        with self.timed(step):
            if not self.ledger.receipts(step) and self.ledger.state(f"{step}-created") is None:
                pyramid.create()
                self.ledger.close_step(f"{step}-created", {})
            count = len(pyramid.grid())
            receipts = self.do(step, range(count), order, batches)
            found: dict[int, str] = {}
            for receipt in receipts:
                # A record has its digest behind those of the shards.
                found.update(zip(receipt.numbers, receipt.digests, strict=False))
            (last,) = self.ledger.receipts(f"{step}-coarse") or self._perform(
                f"{step}-coarse", [CoarseOrder(job, (0,), pyramid)]
            )
        return receipts, [*(found[n] for n in range(count)), *last.digests]

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Count the time of what is done within."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - begun

    def record_path(self, step: str, numbers: tuple[int, ...]) -> str:
        """Where an order leaves its record; empty where it hands it back."""
        if not self.ledger.persistent:
            return ""
        return str(path_of(self.work) / "records" / step / f"{numbers[0]}-{numbers[-1]}.npz")

    def share(self, step: str, state: State) -> Shared:
        """The state as orders take it along."""
        if not self.ledger.persistent or sum(a.nbytes for a in state.values()) < LARGE_STATE:
            return Shared(state)
        path = path_of(self.work) / "states" / f"{step}-before.npz"
        return Shared({}, str(path), save(path, state))

    def _perform(self, step: str, orders: Iterable[Order]) -> Iterator[Receipt]:
        for order, answer in self.execute(orders):
            if isinstance(answer, BaseException):
                raise answer
            self.ledger.add(step, answer)
            self.peak_bytes = max(self.peak_bytes, answer.peak_bytes)
            self.watch(step, len(order.numbers), answer.pixels)
            yield answer

    def _batches(self, numbers: Sequence[int]) -> Iterator[tuple[int, ...]]:
        for k in range(0, len(numbers), self.batch_tiles):
            yield tuple(numbers[k : k + self.batch_tiles])
