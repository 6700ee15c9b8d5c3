"""Processes without a cluster: orders keep their order, and a death is told."""

from __future__ import annotations

import os

import pytest

from pipeline.errors import ClusterError
from workers import pool
from workers.pool import Pool


def own(number: int) -> tuple[int, int]:
    return number, os.getpid()


def die(number: int) -> int:
    if number:
        os._exit(1)
    return number


def test_short_work_starts_no_process() -> None:
    with Pool(4, ()) as opened:
        assert {process for _, process in opened.map(own, range(20))} == {os.getpid()}
        assert opened._executor is None


def test_long_work_is_shared_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "HERE_SECONDS", 0.0)
    with Pool(2, ()) as opened:
        found = list(opened.map(own, range(40), at_once=3))
        again = list(opened.map(own, range(5)))
    assert [number for number, _ in found] == list(range(40))
    assert os.getpid() not in {process for _, process in found[1:]}
    assert {process for _, process in again[1:]} <= {process for _, process in found}


def test_a_process_that_dies_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "HERE_SECONDS", 0.0)
    with Pool(2, ()) as opened, pytest.raises(ClusterError, match=r"died.*fewer --workers"):
        list(opened.map(die, range(4)))
