"""Runs of the service: when they do not begin, stop, or are given up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.dataset import DatasetRun
from flows.request import Request
from flows.service import runs
from flows.service.settings import Runs, Settings
from pipeline.errors import ClusterError, PlanError, RecipeError, TilewrightError
from pipeline.recipe import load_recipe, parse_recipe
from tests import in_process


@pytest.fixture
def dataset(demo: Path, tmp_path: Path) -> Iterator[DatasetRun]:
    """A run over four small images, in this process."""
    request = Request(load_recipe("nuclei"), demo / "crowded", tmp_path / "out")
    with in_process.opened(request) as run:
        yield run


def test_no_run_begins_on_a_disk_that_is_nearly_full(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, runs=Runs(disk_reserve_gib=1e9))
    with pytest.raises(PlanError, match=r"GiB are free .* 1e\+09 GiB that runs leave free"):
        runs.check_reserve(tmp_path / "not" / "there", settings)
    runs.check_reserve(tmp_path, Settings(home=tmp_path, runs=Runs(disk_reserve_gib=0)))


def test_no_image_is_begun_when_room_is_gone(
    dataset: DatasetRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.small_images.SMALL_BATCH_IMAGES", 1)
    calls = []

    def room() -> None:
        calls.append(1)
        if len(calls) > 2:
            raise PlanError("the disk is full")

    dataset.before_images = room
    plans = dataset.plan(dataset.admit())
    with pytest.raises(PlanError, match="the disk is full"):
        dataset.segment_small(plans, {})
    assert dataset.manifest.counts() == {"published": 2}


def test_a_run_that_dies_again_and_again_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "flow_run", SimpleNamespace(id="a", run_count=runs.STARTS))
    monkeypatch.delenv("PREFECT__FLOW_RUN_ID", raising=False)
    runs.begin()
    monkeypatch.setattr(runs, "flow_run", SimpleNamespace(id="a", run_count=runs.STARTS + 1))
    with pytest.raises(TilewrightError, match="given up"):
        runs.begin()


def test_what_may_pass_is_tried_again_with_longer_pauses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pauses: list[float] = []
    tries: list[bool] = []
    record = {"counts": {"images": 100, "quarantined": 1}}

    def attempt(request: Request, settings: Settings) -> dict[str, Any]:
        tries.append(request.fresh)
        if len(tries) < 3:
            raise ClusterError("the scheduler is lost.")
        return record

    said = SimpleNamespace(warning=lambda *_: None)
    monkeypatch.setattr(runs, "_attempt", attempt)
    monkeypatch.setattr(runs, "get_run_logger", lambda: said)
    monkeypatch.setattr(runs.time, "sleep", pauses.append)
    request = Request(load_recipe("nuclei"), tmp_path, tmp_path / "out", fresh=True)
    assert runs.follow(request, Settings(home=tmp_path)) == record
    assert pauses == [30.0, 60.0]
    assert tries == [True, False, False]  # what the first one did is kept
    tries.clear()
    with pytest.raises(ClusterError):
        runs.follow(request, Settings(home=tmp_path, runs=Runs(retries=1)))
    assert len(tries) == 2


def test_faults_that_do_not_pass_are_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def attempt(*_: object) -> dict[str, Any]:
        raise PlanError("too large")

    monkeypatch.setattr(runs, "_attempt", attempt)
    request = Request(load_recipe("nuclei"), tmp_path, tmp_path / "out")
    with pytest.raises(PlanError, match="too large"):
        runs.follow(request, Settings(home=tmp_path))


def test_watching_does_not_suit_recipes_of_whole_datasets(tmp_path: Path) -> None:
    content = {"segment": {"method": "threshold", "foreground": {"scope": "dataset"}}}
    with pytest.raises(RecipeError, match="watching an archive"):
        Request(parse_recipe(content, "r"), tmp_path, tmp_path / "out", paths=frozenset())
