"""Work that is told to end."""

from __future__ import annotations

import threading
import time

import pytest

from flows.stopping import StoppableSubmit
from pipeline.errors import ClusterError
from workers.submit import run_serially


def test_batches_are_answered_until_it_is_stopped() -> None:
    submit = StoppableSubmit(run_serially)
    asking = submit(lambda number: number + 1, range(10))
    answers = [next(asking)[1] for _ in range(3)]
    submit.stop(0.0)
    with pytest.raises(ClusterError, match="was stopped"):
        next(asking)
    assert answers == [1, 2, 3]
    with pytest.raises(ClusterError, match="was stopped"):
        list(submit(lambda number: number, [1]))


def test_it_waits_for_those_who_ask() -> None:
    submit = StoppableSubmit(run_serially)
    asking = submit(lambda _: None, [1, 2])
    next(asking)
    begun = time.monotonic()
    submit.stop(0.3)
    assert 0.25 < time.monotonic() - begun < 5
    threading.Timer(0.3, asking.close).start()
    begun = time.monotonic()
    submit.stop(30.0)
    assert time.monotonic() - begun < 5
