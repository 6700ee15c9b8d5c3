"""Runs that compute on GPUs take turns where the configuration says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.live import Service

pytestmark = [pytest.mark.service, pytest.mark.timeout(900)]

LIMIT = "/v2/concurrency_limits/tilewright-gpu-runs"


@pytest.fixture
def service(tmp_path: Path, demo: Path) -> Iterator[Service]:
    found = Service(tmp_path, more={"runs": {"at_once": 3, "gpu_at_once": 1}})
    for path in sorted((demo / "crowded").iterdir()):
        (found.folder / "archive" / path.name).write_bytes(path.read_bytes())
    found.start()
    yield found
    assert found.stop() == 0, found.log()


def test_one_after_the_other(service: Service) -> None:
    archive, out = service.folder / "archive", service.folder / "out"
    for name in ("a", "b"):
        service("submit", "methods/unet", archive, out / name, "--no-follow")
    service("submit", "nuclei", archive, out / "c", "--no-follow")
    together: set[frozenset[str]] = set()

    def all_ended() -> bool:
        runs = service.runs()
        going = {
            run["name"].split(":")[0] + run["parameters"]["out"][-1]
            for run in runs
            if run["state"]["name"] == "Running" and holds(service, run["id"])
        }
        together.add(frozenset(going))
        return all(run["state"]["name"] == "Completed" for run in runs)

    service.wait(all_ended, 400)
    assert {len(each & {"uneta", "unetb"}) for each in together} == {0, 1}
    assert service.ask(LIMIT)["active_slots"] == 0
    assert all((out / name / "report.html").is_file() for name in "abc")


def holds(service: Service, run: str) -> bool:
    """Whether a run has got beyond its turn: it has begun to show links."""
    body = {"artifacts": {"flow_run_id": {"any_": [run]}}}
    return bool(service.ask("/artifacts/filter", body))
