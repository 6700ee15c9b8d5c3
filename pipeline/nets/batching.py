"""Many windows through a network: read ahead, computed in batches, written behind.

    reading, grouping, to the device | network | from the device, decoding, writing
    (a thread)                       |         | (a thread)

The network always sees full batches: one that is not is filled up with its last window. In which
order sums are added depends on the shape of a batch (a CPU's results for 1 and for 2 windows of
64 px differ by 1e-7), but not on what else is in it: no result depends on the other windows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from pipeline.nets.batch_sizes import BatchSizes
from pipeline.nets.device import GPU_LOCK, device
from pipeline.threads import ahead, behind
from pipeline.timings import Stopwatch, Timings

I = TypeVar("I")  # noqa: E741

#: A window waits for others of its shape for at most so many batches: those behind it are held.
PATIENCE = 2

#: Batches that wait before and behind the network. On one CPU core (8 windows of 512 px, three
#: convolutions) threads cost nothing that can be measured; where reading and writing wait for a
#: disk, 50 ms each, they take 0.69 s in the place of 1.53 s.
WAITING = 1


def run_batches(
    items: Iterable[I],
    load: Callable[[I], Tensor],
    compute: Callable[[Tensor, Sequence[I]], Tensor | Sequence[Any]],
    store: Callable[[I, Any], None],
    *,
    decode: Callable[[I, Any], Any] | None = None,
    batch: int | BatchSizes | None = None,
) -> Timings:
    """Compute windows in batches of equal shape, on the device of this process.

    Memory holds three batches of windows and outputs (being read, computed, written), and windows
    that wait for others of their shape.

    Parameters
    ----------
    items : iterable
        What windows are made of; consumed lazily.
    load : callable
        Gives the window (C, \\*S) of an item, float32, on the CPU. Called in a thread of its own.
    compute : callable
        Takes a batch (N, C, \\*S) on the device and the items of its windows, fewer than N where it
        was filled up. Gives a tensor whose first axis is N, or a sequence of N results. Called in
        this thread, and with a GPU also in that of `load`.
    store : callable
        Takes an item and its result, in the order of the items. Called in a third thread.
    decode : callable, optional
        Makes the result of an item and its output, a tensor (K, \\*S) on the CPU. As `store`.
    batch : int or BatchSizes, optional
        Windows at once; see `BatchSizes`.

    Returns
    -------
    Timings

    Raises
    ------
    PlanError
        If the GPU's memory does not hold a single window. Else whatever the functions raise.
    """
    sizes = batch if isinstance(batch, BatchSizes) else BatchSizes(batch)
    here = device()
    begun = time.perf_counter()
    run = _Run(load, compute, store, decode or (lambda _, output: output), sizes, here)
    with ahead(run.groups(items), WAITING) as groups, behind(run.finish, WAITING) as put:
        for group in groups:
            put(run.computed(group))
    run.watch.add("wall_s", time.perf_counter() - begun)
    return run.watch.timings()


@dataclass(frozen=True)
class _Group(Generic[I]):
    """Windows of one shape (N, C, \\*S), with the numbers of their items."""

    numbers: tuple[int, ...]
    items: tuple[I, ...]
    windows: Tensor


@dataclass(frozen=True)
class _Outputs(Generic[I]):
    """What the network said of a group: batches, each with the number of its rows that count."""

    numbers: tuple[int, ...]
    items: tuple[I, ...]
    batches: list[tuple[Tensor | Sequence[Any], int]]


@dataclass
class _Run(Generic[I]):
    """The stages of one call; each runs in one thread."""

    load: Callable[[I], Tensor]
    compute: Callable[[Tensor, Sequence[I]], Tensor | Sequence[Any]]
    store: Callable[[I, Any], None]
    decode: Callable[[I, Any], Any]
    sizes: BatchSizes
    device: torch.device
    watch: Stopwatch = field(default_factory=Stopwatch)
    _results: dict[int, tuple[I, Any]] = field(default_factory=dict)
    _next: int = 0

    def groups(self, items: Iterable[I]) -> Iterator[_Group[I]]:
        """Read windows, and put those of one shape together."""
        open_groups: dict[tuple[int, ...], list[tuple[int, I, Tensor]]] = {}
        for number, item in enumerate(items):
            with self.watch.time("read"):
                window = self.load(item)
            shape = tuple(window.shape)
            open_groups.setdefault(shape, []).append((number, item, window))
            alone = partial(self._alone, item)
            if len(open_groups[shape]) >= self.sizes.find(window, alone, self.device):
                yield self._group(open_groups.pop(shape))
            # The group that was begun first holds the others' results back.
            for oldest, waiting in list(open_groups.items())[:1]:
                if number - waiting[0][0] >= PATIENCE * (self.sizes.of(oldest) or 1):
                    yield self._group(open_groups.pop(oldest))
        for waiting in open_groups.values():
            yield self._group(waiting)

    def _alone(self, item: I, windows: Tensor) -> Tensor | Sequence[Any]:
        return self.compute(windows, [item])

    def _group(self, waiting: list[tuple[int, I, Tensor]]) -> _Group[I]:
        numbers, items, windows = zip(*waiting, strict=True)
        with self.watch.time("copy"):
            stacked = self._to_device(torch.stack(windows))
        return _Group(numbers, items, stacked)

    def _to_device(self, windows: Tensor) -> Tensor:
        if self.device.type != "cuda":
            return windows
        try:
            with self._side_stream():
                copy = windows.pin_memory().to(self.device, non_blocking=True)
                torch.cuda.current_stream(self.device).synchronize()
        except torch.cuda.OutOfMemoryError:
            return windows  # when it is their turn, there is more room
        return copy

    def computed(self, group: _Group[I]) -> _Outputs[I]:
        """Run the network, in smaller batches if the memory does not hold these."""
        shape = tuple(group.windows.shape[1:])
        found: list[tuple[Tensor | Sequence[Any], int]] = []
        begin = 0
        while begin < len(group.windows):
            size = self.sizes.of(shape) or 1
            part = group.windows[begin : begin + size]
            output = self._attempt(part, group.items[begin : begin + size], size)
            if output is None:
                self.watch.add("halvings", 1)
                self.sizes.halve(shape, size)
                continue
            found.append((output, len(part)))
            begin += len(part)
            self.watch.add("batches", 1)
        self.watch.add("windows", begin)
        return _Outputs(group.numbers, group.items, found)

    def _attempt(
        self, part: Tensor, items: Sequence[I], size: int
    ) -> Tensor | Sequence[Any] | None:
        """Outputs of a full batch; None if the GPU's memory does not hold it."""
        lock: AbstractContextManager[Any] = nullcontext()
        if self.device.type == "cuda":
            lock = GPU_LOCK
        try:
            with lock, self.watch.time("compute"):
                output = self.compute(_filled(part.to(self.device), size), items)
                if self.device.type == "cuda":
                    torch.cuda.current_stream(self.device).synchronize()
        except torch.cuda.OutOfMemoryError:
            output = None
        if output is None and self.device.type == "cuda":
            torch.cuda.empty_cache()  # here, where the error holds no tensors any more
        return output

    def finish(self, outputs: _Outputs[I]) -> None:
        """Decode outputs, and store results in the order of their items."""
        rows = (row for batch, count in outputs.batches for row in self._rows(batch, count))
        for number, item, row in zip(outputs.numbers, outputs.items, rows, strict=True):
            with self.watch.time("decode"):
                self._results[number] = item, self.decode(item, row)
        while self._next in self._results:
            item, result = self._results.pop(self._next)
            with self.watch.time("write"):
                self.store(item, result)
            self._next += 1

    def _rows(self, batch: Tensor | Sequence[Any], count: int) -> Sequence[Any]:
        if not isinstance(batch, Tensor):
            return batch[:count]
        with self.watch.time("copy"), self._side_stream():
            return list(batch[:count].to("cpu"))

    def _side_stream(self) -> AbstractContextManager[Any]:
        """Copies on a stream of their own do not wait for the network."""
        if self.device.type != "cuda":
            return nullcontext()
        return torch.cuda.stream(torch.cuda.Stream(self.device))  # type: ignore[no-untyped-call]


def _filled(part: Tensor, size: int) -> Tensor:
    """A batch of `size`: the last window is repeated."""
    missing = size - len(part)
    return part if not missing else torch.cat([part, part[-1:].expand(missing, *part.shape[1:])])
