"""One server for all commands of a home, and none when the last command is gone.

Most tests replace Prefect by a few lines that answer /api/health: what is tested is the life cycle.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from flows import server, server_process
from flows.configured_server import configured_url
from flows.server import prefect_server, start_server
from pipeline.errors import TilewrightError

ROOT = Path(__file__).parents[2]

FAKE = """
import http.server, json, sys, types
sys.path[:] = json.loads(sys.argv[1])
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/api/health" else 404)
        self.end_headers()
    def log_message(self, *args): pass
def app():
    http.server.HTTPServer(("127.0.0.1", int(sys.argv[-1])), Health).serve_forever()
sys.modules["prefect"] = types.ModuleType("prefect")
sys.modules["prefect.cli"] = types.ModuleType("prefect.cli")
sys.modules["prefect.cli"].app = app
from flows.server_process import serve
serve(*sys.argv[2:])
"""

COMMAND = """
import sys, time
from pathlib import Path
from flows import server, server_process
server_process.CHILD = Path(sys.argv[2]).read_text()
handle = server.start_server(Path(sys.argv[1]))
if len(sys.argv) == 3:
    handle.wait()
print(handle.url, flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _no_server_is_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "user"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_process, "CHILD", FAKE)


def pid_of(home: Path) -> int:
    return int(json.loads((home / "server.json").read_text())["pid"])


def ends(pid: int, seconds: float = 10) -> bool:
    return until(lambda: server_process.has_ended(pid), seconds)


def until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def command(home: Path, tmp_path: Path, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    (tmp_path / "fake.py").write_text(FAKE)
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(home), str(tmp_path / "fake.py"), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    with process.stdout:
        return process, process.stdout.readline().strip()


@pytest.mark.usefixtures("fake")
def test_starts_answers_and_stops(tmp_path: Path) -> None:
    with prefect_server(tmp_path / "home") as url:
        pid = pid_of(tmp_path / "home")
        assert os.environ["PREFECT_API_URL"] == url
        with urllib.request.urlopen(f"{url}/health") as answer:
            assert answer.status == 200
        listening = psutil.Process(pid).net_connections(kind="inet")
        assert {connection.laddr.ip for connection in listening} == {"127.0.0.1"}
    assert "PREFECT_API_URL" not in os.environ
    assert ends(pid)
    assert not (tmp_path / "home" / "server.json").exists()


@pytest.mark.usefixtures("fake")
def test_start_does_not_wait(tmp_path: Path) -> None:
    handle = start_server(tmp_path)
    pid = pid_of(tmp_path)
    assert os.environ["PREFECT_API_URL"] == handle.url
    assert handle.wait() == handle.url
    handle.stop()
    assert ends(pid)


@pytest.mark.usefixtures("fake")
def test_two_commands_share_a_server_and_the_last_one_ends_it(tmp_path: Path) -> None:
    first, url = command(tmp_path / "home", tmp_path)
    pid = pid_of(tmp_path / "home")
    with prefect_server(tmp_path / "home") as ours:
        assert ours == url
        first.send_signal(signal.SIGKILL)
        first.wait()
        time.sleep(3 * server_process.WATCH_SECONDS)
        assert not server_process.has_ended(pid)
    assert ends(pid)


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("arguments", [(), ("do not wait",)])
def test_killed_command_leaves_no_server(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    process, _ = command(tmp_path / "home", tmp_path, *arguments)
    pid = pid_of(tmp_path / "home")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert ends(pid)


@pytest.mark.usefixtures("fake")
def test_simultaneous_starts_make_one_server(tmp_path: Path) -> None:
    handles: list[server.ServerHandle] = []
    threads = [
        threading.Thread(target=lambda: handles.append(start_server(tmp_path))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({handle.url for handle in handles}) == 1
    pid = pid_of(tmp_path)
    for handle in handles:
        assert not server_process.has_ended(pid)
        handle.stop()
    assert ends(pid)


@pytest.mark.usefixtures("fake")
def test_dead_server_is_replaced(tmp_path: Path) -> None:
    first = start_server(tmp_path)
    dead = pid_of(tmp_path)
    os.kill(dead, signal.SIGKILL)
    assert ends(dead)
    with pytest.raises(TilewrightError, match=r"ended while it started\. Its log"):
        first.wait()
    first.stop()
    with prefect_server(tmp_path) as url:
        assert url != first.url
        assert pid_of(tmp_path) != dead


def test_another_process_with_the_same_number_is_not_our_server(tmp_path: Path) -> None:
    state = {"host": socket.gethostname(), "pid": os.getpid(), "started": 1.0, "port": 9}
    (tmp_path / "server.json").write_text(json.dumps(state))
    assert server_process.running(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}'])
def test_broken_state_is_ignored(tmp_path: Path, text: str) -> None:
    (tmp_path / "server.json").write_text(text)
    assert server_process.running(tmp_path) is None


def test_home_of_another_machine(tmp_path: Path) -> None:
    state = {"host": "elsewhere", "pid": 1, "started": 1.0, "port": 9}
    (tmp_path / "server.json").write_text(json.dumps(state))
    assert server_process.running(tmp_path) is None  # nobody serves it any more
    with (
        server_process.locked(tmp_path / "serving.lock", fcntl.LOCK_SH),
        pytest.raises(TilewrightError, match="the Prefect server of elsewhere uses this folder"),
    ):
        start_server(tmp_path)


def test_home_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TilewrightError, match="no Prefect server can be started here"):
        start_server(tmp_path / "file" / "home")


def test_failed_start_shows_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_process, "CHILD", "raise SystemExit('the port is taken')")
    with (
        pytest.raises(TilewrightError, match=r"(?s)ended while it started.*the port is taken"),
        prefect_server(tmp_path),
    ):
        pass
    assert "PREFECT_API_URL" not in os.environ


def test_configured_server_is_used_and_must_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(server, "ANSWER_SECONDS", 0.3)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with (
        pytest.raises(TilewrightError, match=r"127.0.0.1:9/api: the Prefect server does not ans"),
        prefect_server(tmp_path / "home"),
    ):
        pass
    assert os.environ["PREFECT_API_URL"] == "http://127.0.0.1:9/api"
    assert not (tmp_path / "home").exists()


def test_order_of_configured_servers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert configured_url() is None
    (tmp_path / "user").mkdir()
    profiles = 'active = "a"\n[profiles.a]\nPREFECT_API_URL = "a"\n[profiles.b]\n'
    (tmp_path / "user" / "profiles.toml").write_text(profiles)
    assert configured_url() == "a"
    monkeypatch.setenv("PREFECT_PROFILE", "b")
    assert configured_url() is None
    (tmp_path / "pyproject.toml").write_text('[tool.prefect.api]\nurl = "project"')
    assert configured_url() == "project"
    (tmp_path / "prefect.toml").write_text('[api]\nurl = "folder"')
    assert configured_url() == "folder"
    monkeypatch.setenv("PREFECT_API_URL", "environment")
    assert configured_url() == "environment"


def test_server_environment(tmp_path: Path) -> None:
    user = {
        "PATH": "/bin",
        "PREFECT_API_URL": "x",
        "PREFECT_PROFILE": "x",
        "PREFECT_SERVER_API_HOST": "0.0.0.0",
        "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "true",
    }
    found = server_process.server_environment(tmp_path, 4711, user)
    assert found["PATH"] == "/bin"
    assert found["PREFECT_HOME"] == str(tmp_path)
    assert found["PREFECT_SERVER_API_HOST"] == "127.0.0.1"
    assert found["PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED"] == "true"
    assert found["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert "PREFECT_API_URL" not in found
    assert "PREFECT_PROFILE" not in found


def test_real_server(tmp_path: Path) -> None:
    """The slow one: a first start with its migrations, a flow run, the UI, and the end."""
    with prefect_server(tmp_path) as url:
        pid = pid_of(tmp_path)
        with urllib.request.urlopen(url.removesuffix("/api")) as page:
            assert b"<html" in page.read().lower()
        with urllib.request.urlopen(f"{url}/admin/settings") as settings:
            services = json.load(settings)["server"]["services"]
        assert not services["scheduler"]["enabled"]
        assert services["task_run_recorder"]["enabled"]
        listening = [
            connection.laddr.ip
            for connection in psutil.Process(pid).net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert listening == ["127.0.0.1"]
        script = "from prefect import flow\n@flow\ndef f(): return 7\nassert f() == 7\n"
        run = subprocess.run(
            [sys.executable, "-c", script], env=dict(os.environ), capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        assert url.removesuffix("/api") in run.stderr + run.stdout
    assert ends(pid, 30)
