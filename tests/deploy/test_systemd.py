"""deploy/systemd: the units of a workstation."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from deployed import DEPLOY, passes, started_as, tool, unit_of

from flows.service.supervisor import STOP_SECONDS
from flows.service.units import MAKERS

HERE = DEPLOY / "systemd"
UNITS = [HERE / "tilewright.service", HERE / "tilewright@.service"]
GPUS = 8


def entries(path: Path) -> list[tuple[str, str]]:
    lines = [line.strip() for line in path.read_text().splitlines()]
    pairs = [line.partition("=") for line in lines if line[:1] not in ("", "#", "[")]
    return [(name, value) for name, _, value in pairs]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_accepts_it(path: Path, tmp_path: Path) -> None:
    analyze = tool("systemd-analyze")
    copy = tmp_path / path.name
    copy.write_text(path.read_text().replace("/opt/tilewright/bin/tilewright", "/bin/true"))
    passes(analyze, "verify", "--man=no", copy)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_it_stops_and_starts_as_the_service_does(path: Path) -> None:
    found = dict(entries(path))
    # The supervisor stops its units in their order; systemd must not tell all at once.
    assert found["KillMode"] == "mixed"
    assert int(found["TimeoutStopSec"]) > STOP_SECONDS * (len(MAKERS) - 1 + GPUS)
    assert found["Restart"] == "on-failure"
    assert found["NoNewPrivileges"] == "yes"
    assert found["ProtectSystem"] == "strict"
    assert found["User"] == "tilewright"


def test_template_differs_in_the_unit_alone() -> None:
    one, template = (path.read_text().splitlines() for path in UNITS)
    assert set(template) ^ set(one) == {
        "Description=tilewright: server, schedules, cluster and pages on this machine",
        "Description=tilewright: %i",
        "Conflicts=tilewright.service",
        "ExecStart=/opt/tilewright/bin/tilewright serve",
        "ExecStart=/opt/tilewright/bin/tilewright serve %i",
    }


def test_configuration_and_folders_agree(tmp_path: Path) -> None:
    found = entries(UNITS[0])
    variables = dict(value.split("=", 1) for name, value in found if name == "Environment")
    assert dict(found)["StateDirectory"] == Path(variables["TILEWRIGHT_HOME"]).name
    ours = {name: value for name, value in variables.items() if name == "TILEWRIGHT_LOG_TO"}
    with started_as(tmp_path, HERE / "service.yaml", ours, {}) as settings:
        assert settings.log_to == "output"
        assert shlex.split(dict(found)["ReadWritePaths"]) == [
            str(path) for path in settings.outputs
        ]
        for name in MAKERS:
            unit_of(settings, ["serve", name])
