"""Units: started in order, again when they end, never without their supervisor."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from flows.service import supervisor as module
from flows.service.keys import make_keys
from flows.service.serve import serve
from flows.service.settings import Cluster, Server, Settings
from flows.service.supervisor import Supervisor
from flows.service.units import MAKERS, Unit, units
from pipeline.errors import OutputError, RecipeError, TilewrightError

SLEEPS = "import time; print('up', flush=True); time.sleep(60)"
LISTENS = """
import http.server, sys, time
time.sleep(0.3)
class Fine(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *args): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Fine).serve_forever()
"""


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Callable[..., Supervisor]]:
    """Starts units, and watches them in a thread."""
    made: list[tuple[Supervisor, threading.Thread]] = []

    def start(*found: Unit) -> Supervisor:
        supervisor = Supervisor(found, tmp_path)
        supervisor.start()
        thread = threading.Thread(target=supervisor.watch)
        thread.start()
        made.append((supervisor, thread))
        return supervisor

    before = children()
    yield start
    for supervisor, thread in made:
        supervisor.stop()
        thread.join()
        supervisor.shut_down()
    assert [p for p in children() if p not in before] == []


def test_a_unit_starts_when_those_before_it_are_ready(
    watched: Callable[..., Supervisor], tmp_path: Path, unused_port: int
) -> None:
    asks = f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:{unused_port}').status)"
    url = f"http://127.0.0.1:{unused_port}/health"
    watched(
        Unit("server", python(LISTENS, unused_port), ready_url=url),
        Unit("client", python(f"{asks}\n{SLEEPS}")),
    )
    wait_for(lambda: "up" in (tmp_path / "client.log").read_text())
    assert "200" in (tmp_path / "client.log").read_text()


def test_a_unit_that_ends_is_started_again(
    watched: Callable[..., Supervisor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSES_SECONDS", (0.1,))
    log = tmp_path / "a.log"
    watched(Unit("a", python(SLEEPS)))
    for number in (1, 2, 3):
        wait_for(lambda n=number: log.exists() and log.read_text().count("up") == n)  # type: ignore[misc]
        if number < 3:
            next(p for p in children() if SLEEPS in p.cmdline()).kill()


def test_a_unit_that_does_not_start_is_an_error_and_stops_the_others(tmp_path: Path) -> None:
    before = len(children())
    broken = python("print('no such option'); raise SystemExit(2)")
    supervisor = Supervisor(
        [Unit("first", python(SLEEPS)), Unit("second", broken, port=1)], tmp_path
    )
    with pytest.raises(TilewrightError, match="second ended while it started") as raised:
        supervisor.start()
    assert "no such option" in str(raised.value)
    assert str(tmp_path / "second.log") in str(raised.value)
    assert len(children()) == before


def test_a_unit_that_does_not_end_is_killed(
    watched: Callable[..., Supervisor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS", 0.3)
    stubborn = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SLEEPS}"
    watched(Unit("a", python(stubborn)))
    wait_for(lambda: "up" in (tmp_path / "a.log").read_text())


def test_no_unit_outlives_its_supervisor(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from flows.service.supervisor import Supervisor
from flows.service.units import Unit
Supervisor([Unit("a", [sys.executable, "-c", {SLEEPS!r}])], Path({str(tmp_path)!r})).start()
print("started", flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen(python(code), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"started\n"
    (unit,) = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not unit.is_running() or unit.status() == psutil.STATUS_ZOMBIE)


def test_secrets_are_shown_to_those_that_need_them_alone(
    watched: Callable[..., Supervisor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TILEWRIGHT_SERVER__PASSWORD", "me:secret")
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere/api")
    keys = ("AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_ACCOUNT_KEY", "GOOGLE_SERVICE_ACCOUNT")
    for key in keys:
        monkeypatch.setenv(key, f"key of {key}")
    shows = f"import os; print(sorted(os.environ.items()), flush=True)\n{SLEEPS}"
    watched(
        Unit("dask", python(shows)),
        Unit("runner", python(shows), reads_settings=True),
        Unit("workers", python(shows), reads_stores=True),
    )
    for name, sees, opens in (
        ("dask", False, False),
        ("runner", True, False),
        ("workers", False, True),
    ):
        log = tmp_path / f"{name}.log"
        wait_for(lambda log=log: "up" in log.read_text())  # type: ignore[misc]
        assert ("me:secret" in log.read_text()) == sees
        for key in keys:
            assert (f"key of {key}" in log.read_text()) == opens
        assert "elsewhere" not in log.read_text()


def test_those_that_read_archives_are_given_the_keys_of_stores(tmp_path: Path) -> None:
    make_keys(tmp_path / "keys")
    found = units(Settings(home=tmp_path, cluster={"gpus": ("0",)}))
    assert {unit.name for unit in found if unit.reads_stores} == {
        "workers",
        "gpu-worker-0",
        "runner",
        "pages",
    }


def test_units_are_those_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TILEWRIGHT_GPUS", "none")
    settings = Settings(
        home=tmp_path,
        server=Server(port=4300, password="me:secret", database="postgresql+asyncpg://u:p@db/x"),
        cluster=Cluster(workers=3, memory_gib=2.5, gpus=("0", "GPU-ab")),
    )
    with pytest.raises(RecipeError, match="tilewright keys"):
        units(settings)
    make_keys(settings.keys)
    found = {unit.name: unit for unit in units(settings)}
    assert list(found) == [
        "server", "scheduler", "workers", "gpu-worker-0", "gpu-worker-GPU-ab", "runner", "pages",
    ]  # fmt: skip
    everything = " ".join(" ".join(unit.command) for unit in found.values())
    assert "secret" not in everything  # anybody can list commands
    server = found["server"].environment
    assert server["PREFECT_SERVER_API_AUTH_STRING"] == "me:secret"
    assert server["PREFECT_SERVER_DATABASE_CONNECTION_URL"].startswith("postgresql+asyncpg:")
    assert found["runner"].environment["PREFECT_API_AUTH_STRING"] == "me:secret"
    assert "--nworkers 3 --nthreads 1" in " ".join(found["workers"].command)
    assert "2.5 GiB" in found["workers"].command
    assert found["gpu-worker-GPU-ab"].environment["CUDA_VISIBLE_DEVICES"] == "GPU-ab"
    for name in ("scheduler", "workers", "gpu-worker-0"):
        assert "--tls-key" in found[name].command
        assert "secret" not in " ".join(found[name].environment.values())
    assert [unit.name for unit in units(settings, ["pages", "server"])] == ["server", "pages"]


def test_serve_refuses_what_it_does_not_know_and_a_second_service(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with pytest.raises(RecipeError, match=r"sever: no such unit\. Units: server, scheduler"):
        serve(settings, ["sever"], print)
    import fcntl

    with (tmp_path / "scheduler.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match="its scheduler runs already"):
            serve(settings, [], print)
    assert set(MAKERS) == {"server", "scheduler", "workers", "gpu-workers", "runner", "pages"}


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
