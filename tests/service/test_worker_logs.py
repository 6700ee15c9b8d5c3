"""Warnings of workers in the log of a run."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest

from flows.service.worker_logs import show_in_run
from workers.cluster import open_cluster

NAME = "pipeline.of_this_test"


class Kept(logging.Handler):
    """Keeps records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def handler() -> Iterator[Kept]:
    logger, kept = logging.getLogger(NAME), Kept()
    logger.addHandler(kept)
    yield kept
    logger.removeHandler(kept)


def warn(number: int) -> int:
    logging.getLogger(NAME).warning("the GPU is %d times too small", number)
    return number


def test_a_warning_of_a_worker_is_told_whose_it_is(handler: Kept) -> None:
    show_in_run("the-run", [NAME])
    with open_cluster(1, None) as client:
        assert client.submit(warn, 2).result() == 2
        warn(3)  # of this process: Prefect knows its run by itself
        deadline = time.monotonic() + 20
        while len(handler.records) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    found = {record.getMessage(): record for record in handler.records}
    assert set(found) == {f"the GPU is {n} times too small" for n in (2, 3)}
    assert found["the GPU is 2 times too small"].flow_run_id == "the-run"
    assert not hasattr(found["the GPU is 3 times too small"], "flow_run_id")
