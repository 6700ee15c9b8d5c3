"""Windows through a network in batches: the same results in the items' order, whatever happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from pipeline.errors import PlanError  # noqa: E402
from pipeline.nets import batching  # noqa: E402
from pipeline.nets.batch_sizes import ENOUGH_PX, MOST, BatchSizes, fitting  # noqa: E402
from pipeline.nets.batching import run_batches  # noqa: E402
from pipeline.nets.device import gpu_allowed  # noqa: E402
from pipeline.threads import ahead, behind  # noqa: E402
from pipeline.timings import Timings  # noqa: E402

#: Sides of windows: those of the frame's end are smaller.
SIDES = (16, 16, 12, 16, 12, 16, 16, 16, 12, 16, 12, 16, 8)


def window(number: int) -> Tensor:
    generator = torch.Generator().manual_seed(number)
    return torch.rand((1, SIDES[number], 16), generator=generator)


@pytest.fixture(scope="module")
def network() -> Any:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1))

    def compute(batch: Tensor, _: Any = None) -> Tensor:
        with torch.inference_mode():
            out: Tensor = net(batch)
            return out

    return compute


class Stored:
    """What was stored, in its order."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.results: list[Any] = []

    def __call__(self, number: int, result: Any) -> None:
        self.numbers.append(number)
        self.results.append(result)


@pytest.mark.parametrize("batch", [None, 1, 2, 3, 4, 20])
def test_results_do_not_depend_on_the_other_windows(network: Any, batch: int | None) -> None:
    """Equal bits in any company; a batch of another size may differ in the last digits."""
    stored = Stored()
    timings = run_batches(range(len(SIDES)), window, network, stored, batch=batch)
    assert stored.numbers == list(range(len(SIDES)))
    for number, result in enumerate(stored.results):
        assert torch.equal(result, alone(network, window(number), batch or 1))
        torch.testing.assert_close(result, alone(network, window(number), 1), atol=1e-6, rtol=0)
    assert timings.windows == len(SIDES)


def test_order_of_windows_changes_no_bit(network: Any) -> None:
    forward, backward = Stored(), Stored()
    numbers = range(len(SIDES))
    run_batches(numbers, window, network, forward, batch=4)
    run_batches(numbers[::-1], window, network, backward, batch=4)
    pairs = zip(forward.results, backward.results[::-1], strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def alone(network: Any, one: Tensor, batch: int) -> Tensor:
    """Output for a window in a batch of nothing but it."""
    out: Tensor = network(one.expand(batch, *one.shape).contiguous())[0]
    return out


def test_batches_are_full_and_of_one_shape(network: Any) -> None:
    shapes = []

    def compute(batch: Tensor, _: Any = None) -> Tensor:
        shapes.append(tuple(batch.shape))
        out: Tensor = network(batch)
        return out

    timings = run_batches(range(len(SIDES)), window, compute, Stored(), batch=3)
    assert {shape[0] for shape in shapes} == {3}
    # 8 windows of 16, 4 of 12 and 1 of 8: neighbours in the list need not be alike.
    assert sorted(shape[2] for shape in shapes) == [8, 12, 12, 16, 16, 16]
    assert timings.batches == len(shapes)


def test_nothing_to_do(network: Any) -> None:
    timings = run_batches([], window, network, Stored())
    assert (timings.windows, timings.batches) == (0, 0)


def test_decode_and_results_that_are_no_tensor() -> None:
    stored = Stored()
    run_batches(
        range(5),
        lambda n: torch.full((1, 2, 2), float(n)),
        lambda batch, _: [{"sum": float(one.sum())} for one in batch],
        stored,
        decode=lambda n, found: (n, found["sum"]),
        batch=2,
    )
    assert stored.results == [(n, 4.0 * n) for n in range(5)]


def test_a_batch_that_does_not_fit_is_halved(network: Any) -> None:
    tried = []

    def compute(batch: Tensor, _: Any = None) -> Tensor:
        tried.append(len(batch))
        if len(batch) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        out: Tensor = network(batch)
        return out

    stored, sizes = Stored(), BatchSizes(8)
    like = [0] * 10
    timings = run_batches(enumerate(like), lambda p: window(p[1]), compute, stored, batch=sizes)
    assert tried[:3] == [8, 4, 2]
    assert set(tried[3:]) == {2}
    assert timings.halvings == 2
    assert [number for number, _ in stored.numbers] == list(range(10))  # type: ignore[misc]
    assert all(torch.equal(one, alone(network, window(0), 2)) for one in stored.results)
    assert sizes.of((1, 16, 16)) == 2
    assert sizes.of((1, 12, 16)) == 8  # of another shape it is not known


def test_a_window_that_does_not_fit_is_an_error() -> None:
    def compute(batch: Tensor, _: Any = None) -> Tensor:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(PlanError, match="a window of 1x16x16 takes more memory than the GPU"):
        run_batches([0], window, compute, Stored(), batch=4)


@pytest.mark.parametrize("stage", ["items", "load", "compute", "decode", "store"])
@pytest.mark.parametrize("number", [0, 3, 39])
def test_an_error_comes_out_and_all_threads_end(stage: str, number: int) -> None:
    before = threading.active_count()
    done: dict[str, int] = dict.fromkeys(["load", "compute", "store"], 0)

    def fail(where: str, at: int) -> None:
        done[where] = done.get(where, 0) + 1
        if where == stage and at == number:
            raise KeyError(where)

    def items() -> Iterator[int]:
        for at in range(40):
            fail("items", at)
            yield at

    def load(at: int) -> Tensor:
        fail("load", at)
        return torch.full((1, 4, 4), float(at))

    def compute(batch: Tensor, _: Any = None) -> Tensor:
        fail("compute", int(batch[0, 0, 0, 0]))
        return batch

    def decode(at: int, output: Tensor) -> Tensor:
        fail("decode", at)
        return output

    with pytest.raises(KeyError, match=stage):
        run_batches(items(), load, compute, lambda at, _: fail("store", at), decode=decode)
    assert threading.active_count() == before
    # At the error at most so many were read ahead and stored behind.
    assert done["load"] <= number + 6
    assert done["store"] <= number + 1


def test_memory_is_bounded() -> None:
    """A slow writer holds the reader back."""
    read = written = most = 0

    def load(at: int) -> Tensor:
        nonlocal read, most
        read += 1
        most = max(most, read - written)
        return torch.zeros((1, 4, 4))

    def store(at: int, result: Tensor) -> None:
        nonlocal written
        time.sleep(0.01)
        written += 1

    run_batches(range(40), load, lambda batch, _: batch, store, batch=2)
    assert most <= 7 * 2  # read, waiting, computed, waiting, written; and two that change hands


def test_one_odd_window_does_not_hold_all_results() -> None:
    """A shape that never comes again is computed after a few batches of the others."""
    held = read = stored = 0

    def load(at: int) -> Tensor:
        nonlocal read, held
        read += 1
        held = max(held, read - stored)
        return torch.zeros((1, 4, 8 if at == 0 else 4))

    def store(at: int, result: Tensor) -> None:
        nonlocal stored
        stored += 1

    run_batches(range(100), load, lambda batch, _: batch, store, batch=4)
    assert held <= batching.PATIENCE * 4 + 7 * 4


def test_reading_computing_and_writing_overlap() -> None:
    def load(at: int) -> Tensor:
        time.sleep(0.03)
        return torch.zeros((1, 4, 4))

    def compute(batch: Tensor, _: Any = None) -> Tensor:
        time.sleep(0.03)
        return batch

    timings = run_batches(range(10), load, compute, lambda *_: time.sleep(0.03))
    for stage in (timings.read_s, timings.compute_s, timings.write_s):
        assert stage >= 0.3
    assert timings.wall_s < 0.75 * (timings.read_s + timings.compute_s + timings.write_s)


def test_threads_know_what_the_caller_allows() -> None:
    """The device is asked for in any of the functions."""
    seen = []

    def look(*_: Any) -> Tensor:
        from pipeline.nets.device import _allowed

        seen.append(_allowed.get())
        return torch.zeros((1, 2, 2))

    with gpu_allowed():
        run_batches([0], look, lambda batch, _: batch, look)
    assert seen == [True, True]
    with gpu_allowed(), gpu_allowed(False):
        run_batches([0], look, lambda batch, _: batch, look)
    assert seen[2:] == [False, False]


def test_timings_add_up() -> None:
    one = Timings(read_s=1.0, write_s=2.0, windows=3)
    assert one + Timings(read_s=0.5, batches=1) == Timings(
        read_s=1.5, write_s=2.0, windows=3, batches=1
    )


@pytest.mark.parametrize(
    ("free", "one", "px", "expected"),
    [
        (10 * 2**30, 2**30, 512 * 512, 4),  # 7 fit: a power of two
        (80 * 2**30, 2**30, 1024 * 1024, ENOUGH_PX // 2**20),  # more would not be faster
        (80 * 2**30, 2**20, 8 * 8, MOST),
        (2**30, 2 * 2**30, 4096 * 4096, 1),  # does not fit: trying will tell
        (2**30, 0, 512 * 512, 8),
    ],
)
def test_size_by_memory_and_pixels(free: int, one: int, px: int, expected: int) -> None:
    assert fitting(free, one, px) == expected


def test_batch_below_one_is_refused(network: Any) -> None:
    with pytest.raises(PlanError, match="batch is 0"):
        run_batches([0], window, network, Stored(), batch=0)


def test_ahead_draws_no_more_than_it_may() -> None:
    drawn = []

    def source() -> Iterator[int]:
        for number in range(10):
            drawn.append(number)
            yield number

    with ahead(source(), 2) as items:
        assert next(items) == 0
        time.sleep(0.1)
        assert len(drawn) <= 4
    assert len(drawn) <= 4


def test_behind_finishes_before_it_ends() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        time.sleep(0.01)
        done.append(number)

    with behind(work, 3) as put:
        for number in range(8):
            put(number)
    assert done == list(range(8))
