"""deploy/compose.yaml: the schema, and each unit with the configuration that it gets there."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from deployed import DEPLOY, documents, passes, started_as, tool, unit_of

from flows.service.settings import Settings
from flows.service.supervisor import STOP_SECONDS
from flows.service.units import MAKERS

FILE = DEPLOY / "compose.yaml"
(COMPOSE,) = documents(FILE)
UNITS = {name: part for name, part in COMPOSE["services"].items() if name != "postgres"}
HOME = "/var/lib/tilewright"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of deploy/ after prepare.sh, which finds a `tilewright` that makes no keys."""
    here = tmp_path_factory.mktemp("deploy")
    for name in ("prepare.sh", "service.yaml", "compose.yaml"):
        (here / name).write_bytes((DEPLOY / name).read_bytes())
    commands = here / "bin"
    commands.mkdir()
    (commands / "tilewright").write_text("#!/bin/sh\n")
    (commands / "tilewright").chmod(0o755)
    for name in ("archive", "outputs"):
        (here / name).mkdir()
    prepare(here)
    return here


def prepare(here: Path) -> str:
    environment = {**os.environ, "PATH": f"{here / 'bin'}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", here / "prepare.sh", here / "archive", here / "outputs"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@contextmanager
def settings_of(name: str, prepared: Path, home: Path) -> Iterator[Settings]:
    part = UNITS[name]
    secrets = {secret: (prepared / "secrets" / secret).read_text() for secret in part_secrets(part)}
    with started_as(home, DEPLOY / "service.yaml", part["environment"], secrets) as settings:
        yield settings


def part_secrets(part: dict[str, Any]) -> list[str]:
    return part.get("secrets", [])


def test_schema() -> None:
    passes(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", FILE)


def test_all_units_are_there() -> None:
    assert set(UNITS) == set(MAKERS)
    assert {name: part["command"][-1] for name, part in UNITS.items()} == {n: n for n in MAKERS}
    assert UNITS["gpu-workers"]["profiles"] == ["gpu"]


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_unit_starts_with_what_it_is_given(name: str, prepared: Path, tmp_path: Path) -> None:
    with settings_of(name, prepared, tmp_path) as settings:
        unit = unit_of(settings, UNITS[name]["command"])
        assert settings.server.api_url == "http://server:4200/api"
        assert settings.cluster.address == "tls://scheduler:8786"
        passwords = settings.server.password, settings.server.database
    asks = {"server": (True, True), "runner": (True, False), "pages": (True, False)}
    assert tuple(map(bool, passwords)) == asks.get(name, (False, False))
    needs_keys = any("--tls-key" in part for part in unit.command) or name == "runner"
    has_keys = any(found["target"] == f"{HOME}/keys" for found in UNITS[name]["volumes"])
    assert has_keys is needs_keys


def test_server_gets_the_database_of_postgres(prepared: Path, tmp_path: Path) -> None:
    with settings_of("server", prepared, tmp_path) as settings:
        unit = unit_of(settings, ["serve", "server"])
    password = (prepared / "secrets" / "postgres_password").read_text()
    assert len(password) == 32
    assert unit.environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] == (
        f"postgresql+asyncpg://tilewright:{password}@postgres:5432/tilewright"
    )
    assert unit.environment["PREFECT_SERVER_API_AUTH_STRING"].startswith("tilewright:")
    assert COMPOSE["services"]["postgres"]["environment"] == {
        "POSTGRES_USER": "tilewright",
        "POSTGRES_DB": "tilewright",
        "POSTGRES_PASSWORD_FILE": "/run/secrets/postgres_password",
    }


def test_secrets_are_files_that_are_made(prepared: Path) -> None:
    assert {part["file"] for part in COMPOSE["secrets"].values()} == {
        f"./secrets/{path.name}" for path in (prepared / "secrets").iterdir()
    }
    for path in (prepared / ".env", *(prepared / "secrets").iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_preparing_twice_changes_nothing(prepared: Path) -> None:
    files = [prepared / ".env", *(prepared / "secrets").iterdir()]
    before = [path.read_text() for path in files]
    assert (prepared / "secrets" / "tilewright_server__password").read_text() in prepare(prepared)
    assert [path.read_text() for path in files] == before


def test_ports_are_those_of_the_configuration_and_on_this_machine_alone(
    prepared: Path, tmp_path: Path
) -> None:
    with settings_of("server", prepared, tmp_path) as settings:
        ports = {
            "server": settings.server.port,
            "scheduler": settings.cluster.dashboard_port,
            "pages": settings.pages.port,
        }
        health = {**ports, "runner": settings.runs.health_port}
        links = settings.cluster.dashboard_url, settings.pages.base_url
    found = {name: part["ports"] for name, part in COMPOSE["services"].items() if "ports" in part}
    assert found == {name: [f"127.0.0.1:{port}:{port}"] for name, port in ports.items()}
    assert links == tuple(f"http://127.0.0.1:{ports[name]}" for name in ("scheduler", "pages"))
    asked = {
        name: int(re.findall(r"127.0.0.1:(\d+)/", part["healthcheck"]["test"][-1])[0])
        for name, part in UNITS.items()
        if "healthcheck" in part
    }
    assert asked == health


def test_archive_is_read_and_outputs_are_written(prepared: Path, tmp_path: Path) -> None:
    with settings_of("runner", prepared, tmp_path) as settings:
        places = [str(path) for path in (*settings.archives, *settings.outputs)]
    for name in ("workers", "gpu-workers", "runner"):
        found = {part["target"]: part.get("read_only", False) for part in UNITS[name]["volumes"]}
        assert [found[place] for place in places] == [True, False]


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_unit_is_closed_and_comes_back(name: str) -> None:
    part = UNITS[name]
    assert part["read_only"]
    assert part["cap_drop"] == ["ALL"]
    assert part["security_opt"] == ["no-new-privileges:true"]
    assert part["restart"] == "unless-stopped"
    assert int(part["stop_grace_period"].removesuffix("s")) > STOP_SECONDS
    # A volume or a tmpfs: Prefect and Dask write to the home.
    targets = {found["target"] for found in part["volumes"]} | set(part["tmpfs"])
    assert {HOME, "/tmp"} <= targets


def test_compose_itself_accepts_it(prepared: Path) -> None:
    docker = tool("docker")
    if subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("docker has no compose")
    passes(docker, "compose", "-f", prepared / "compose.yaml", "--profile", "gpu", "config", "-q")
