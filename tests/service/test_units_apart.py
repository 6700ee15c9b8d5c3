"""Units on machines, in containers and in batch jobs of their own."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from flows.service.keys import _is_open, make_keys
from flows.service.serve import serve
from flows.service.settings import Settings
from flows.service.supervisor import Supervisor
from flows.service.units import Unit, units
from pipeline.errors import ClusterError


@pytest.fixture
def home(tmp_path: Path) -> Path:
    make_keys(tmp_path / "keys")
    return tmp_path


def option(unit: Unit, name: str) -> str:
    return unit.command[list(unit.command).index(name) + 1]


def test_workers_end_before_the_walltime_and_not_all_at_once(home: Path) -> None:
    settings = Settings(home=home, cluster={"lifetime_minutes": 200, "gpus": ("0", "1")})
    found = units(settings, ["workers", "gpu-workers"])
    assert [unit.name for unit in found] == ["workers", "gpu-worker-0", "gpu-worker-1"]
    for unit in found:
        assert option(unit, "--lifetime") == "200.0 minutes"
        assert option(unit, "--lifetime-stagger") == "20.0 minutes"
        assert unit.once


def test_workers_live_for_ever_unless_told(home: Path) -> None:
    (unit,) = units(Settings(home=home), ["workers"])
    assert "--lifetime" not in unit.command
    assert "--name" not in unit.command
    assert not unit.once


def test_workers_have_the_name_that_the_operator_gave(home: Path) -> None:
    settings = Settings(home=home, cluster={"worker_name": "pod-1", "gpus": ("0",)})
    assert [option(u, "--name") for u in units(settings, ["workers", "gpu-workers"])] == [
        "pod-1",
        "pod-1",
    ]
    settings = Settings(home=home, cluster={"worker_name": "pod-1", "gpus": ("0", "1")})
    assert [option(u, "--name") for u in units(settings, ["gpu-workers"])] == ["pod-1-0", "pod-1-1"]


def test_units_are_looked_for_where_they_listen_not_where_others_reach_them(home: Path) -> None:
    settings = Settings(
        home=home,
        private_network=True,
        server={"host": "0.0.0.0", "url": "https://there/api", "password": "u:p"},
        cluster={"host": "10.0.0.1"},
        pages={"host": "0.0.0.0", "url": "https://there"},
    )
    server, scheduler, pages = units(settings, ["server", "scheduler", "pages"])
    assert server.ready_url == "http://127.0.0.1:4200/api/health"
    assert (scheduler.host, scheduler.port) == ("10.0.0.1", 8786)
    assert pages.ready_url == "http://127.0.0.1:4201/health"


def test_dashboard_is_linked_where_browsers_reach_it() -> None:
    listening = {"dashboard_host": "0.0.0.0"}
    settings = Settings(private_network=True, cluster=listening)
    assert settings.cluster.dashboard_url == "http://127.0.0.1:8787"
    settings = Settings(private_network=True, cluster={**listening, "dashboard": "https://there/"})
    assert settings.cluster.dashboard_url == "https://there"


def test_runner_can_be_asked_for_its_health() -> None:
    (unit,) = units(Settings(), ["runner"])
    assert "--with-healthcheck" not in unit.command
    (unit,) = units(Settings(runs={"health_port": 4202}), ["runner"])
    assert "--with-healthcheck" in unit.command
    assert unit.environment["PREFECT_WORKER_WEBSERVER_PORT"] == "4202"


def test_service_ends_when_all_its_units_are_done(tmp_path: Path) -> None:
    done = [Unit(name, [sys.executable, "-c", "pass"], once=True) for name in ("a", "b")]
    supervisor = Supervisor(done, tmp_path / "logs")
    supervisor.start()
    watching = threading.Thread(target=supervisor.watch, daemon=True)
    watching.start()
    watching.join(30)
    assert not watching.is_alive()
    supervisor.shut_down()


def test_unit_that_fails_starts_again_even_if_it_may_end(tmp_path: Path) -> None:
    script = "from pathlib import Path; import sys; open('n', 'a').write('x');"
    script += "sys.exit(len(Path('n').read_text()) < 2)"
    supervisor = Supervisor([Unit("a", [sys.executable, "-c", script], once=True)], tmp_path)
    supervisor.start()
    supervisor.watch()
    assert (tmp_path / "n").read_text() == "xx"


def test_output_of_units_goes_where_a_container_wants_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    unit = Unit("a", [sys.executable, "-c", "print('heard')"], once=True)
    supervisor = Supervisor([unit], tmp_path / "logs", to_files=False)
    supervisor.start()
    supervisor.watch()
    assert capfd.readouterr().out == "heard\n"
    assert not list((tmp_path / "logs").iterdir())


def test_no_gpu_is_an_error_where_only_gpus_are_wanted(home: Path) -> None:
    settings = Settings(home=home, cluster={"gpus": ()})
    with pytest.raises(ClusterError, match="no GPU"):
        serve(settings, ["gpu-workers"], print)


@pytest.mark.parametrize(
    ("mode", "owner", "user", "is_open"),
    [
        (0o100600, 1000, 1000, False),
        (0o100640, 1000, 1000, True),
        (0o100440, 0, 1000, False),  # a secret of Kubernetes with fsGroup
        (0o100444, 0, 1000, True),
        (0o100460, 0, 1000, True),
        (0o100640, 0, 0, True),
    ],
)
def test_who_may_read_a_key(mode: int, owner: int, user: int, is_open: bool) -> None:
    now = int(time.time())
    status = os.stat_result((mode, 1, 1, 1, owner, 1000, 10, now, now, now))
    assert _is_open(status, user) is is_open
