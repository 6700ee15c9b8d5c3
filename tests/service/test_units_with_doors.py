"""PostgreSQL and every unit as processes of their own, with password and keys, as in compose."""

from __future__ import annotations

import base64
import json
import os
import pwd
import shutil
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from flows.service.keys import make_keys
from pipeline.status import status_text
from tests.service.live import COMMAND, Service, free_ports

pytestmark = [pytest.mark.service, pytest.mark.timeout(900)]

PASSWORD = "facility:correct horse"
DATABASE_PASSWORD = "battery"
UNITS = ("server", "scheduler", "workers", "runner", "pages")


def postgres_programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    there = shutil.which("initdb")
    if there is None:
        pytest.skip("needs PostgreSQL (Debian: postgresql)")
    return Path(there).parent


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server that asks for a password; its URL."""
    programs = postgres_programs()
    folder = Path("/tmp") / f"tilewright-pg-{os.getpid()}"  # its socket's path must be short
    folder.mkdir(mode=0o700)
    (port,) = free_ports(1)
    # It does not run as root.
    user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    if os.getuid() == 0:
        shutil.chown(folder, user)
    secret = folder / "password"
    secret.write_text(DATABASE_PASSWORD)
    secret.chmod(0o644)

    def run(*command: object) -> None:
        subprocess.run(list(map(str, command)), check=True, user=user, capture_output=True)

    data = folder / "data"
    options = ["-U", "tilewright", "--auth=scram-sha-256", f"--pwfile={secret}"]
    run(programs / "initdb", "-D", data, *options)
    server = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
    run(programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", server, "start")
    try:
        yield f"postgresql+asyncpg://tilewright:{DATABASE_PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        run(programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def service(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """All units, each by a command of its own; only the server knows the database."""
    secrets = {"TILEWRIGHT_SERVER__PASSWORD": PASSWORD}
    found = Service(tmp_path_factory.mktemp("apart"), secrets=secrets)
    make_keys(found.folder / "home" / "keys")
    with ExitStack() as stack:
        for unit in UNITS:
            more = {"TILEWRIGHT_SERVER__DATABASE": database} if unit == "server" else {}
            log = stack.enter_context((found.folder / f"{unit}.log").open("wb"))
            environment = {**found.environment(), **more}
            found.process = subprocess.Popen(
                [*COMMAND, "serve", unit], stdout=log, stderr=log, env=environment
            )
            stack.callback(_stop, found.process)
            if unit == "server":
                found.wait(lambda: _status(f"{found.url}/api/health", PASSWORD) == 200, 120)
        found.wait(found.offers, 120)
        yield found


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    assert process.wait(60) == 0


def _status(url: str, password: str | None = None, body: bytes | None = None) -> int:
    """HTTP status of an answer; 0 without one."""
    headers = {"Content-Type": "application/json"}
    if password is not None:
        headers["Authorization"] = f"Basic {base64.b64encode(password.encode()).decode()}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10) as got:
            return int(got.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_a_run_passes(service: Service, demo: Path) -> None:
    archive = service.folder / "archive" / "crowded"
    archive.mkdir()
    for path in (demo / "crowded").iterdir():
        (archive / path.name).write_bytes(path.read_bytes())
    out = service.folder / "out" / "crowded"
    said = service("submit", "nuclei", archive, out)
    assert "Completed" in said
    assert "published    4 images" in status_text(out)[0]
    once = service.folder / "out" / "once"
    service("run", "nuclei", archive, once)  # the command, with a cluster of its own
    assert _digest(out) == _digest(once)


def _digest(out: Path) -> Any:
    return json.loads((out / "run.json").read_text())["certificate"]["labels_digest"]


@pytest.mark.parametrize("password", [None, "facility:wrong", "someone:correct horse", ""])
def test_without_the_password_the_server_refuses(service: Service, password: str | None) -> None:
    for path, body in (("/deployments/filter", b"{}"), ("/flow_runs/filter", b"{}")):
        assert _status(f"{service.url}/api{path}", password, body) == 401
        assert _status(f"{service.url}/api{path}", PASSWORD, body) == 200


def test_a_command_without_the_password_says_so(service: Service) -> None:
    secrets, service.secrets = service.secrets, {}
    try:
        said = service("schedule", "list", expect=1)
    finally:
        service.secrets = secrets
    assert "asks for another password" in said
    assert "TILEWRIGHT_SERVER__PASSWORD" in said


def speaks(address: tuple[str, int], keys: Path | None) -> bool:
    """Whether a Dask scheduler begins to talk to who shows these keys, or none."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if keys is not None:
        context.load_cert_chain(keys / "service.pem", keys / "service-key.pem")
    try:
        with (
            socket.create_connection(address, 5) as plain,
            context.wrap_socket(plain) as secure,
        ):
            secure.settimeout(5)
            return secure.recv(1) != b""
    except (ssl.SSLError, OSError):
        return False


def test_without_a_key_the_scheduler_refuses(service: Service, tmp_path: Path) -> None:
    others, address = tmp_path / "others", ("127.0.0.1", service.scheduler)
    make_keys(others)
    assert speaks(address, service.folder / "home" / "keys")
    assert not speaks(address, others)
    assert not speaks(address, None)


def test_without_the_password_the_database_refuses(database: str) -> None:
    import asyncio

    import asyncpg

    async def connect(url: str) -> int:
        connection = await asyncpg.connect(url)
        try:
            found: int = await connection.fetchval("SELECT COUNT(*) FROM flow_run")
            return found
        finally:
            await connection.close()

    url = database.replace("+asyncpg", "")
    assert asyncio.run(connect(url)) >= 0  # the server's tables are there
    with pytest.raises(asyncpg.InvalidPasswordError):
        asyncio.run(connect(url.replace(DATABASE_PASSWORD, "wrong")))


def test_secrets_are_nowhere_to_be_read(service: Service) -> None:
    for path in (p for p in service.folder.rglob("*") if p.is_file() and p.suffix != ".pem"):
        content = path.read_bytes()
        for secret in (b"correct horse", DATABASE_PASSWORD.encode()):
            assert secret not in content, path
    listed = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, check=True).stdout
    assert b"correct horse" not in listed
