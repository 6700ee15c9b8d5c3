"""A service of its own for a test: `tilewright serve` on free ports, in a folder of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

COMMAND = [sys.executable, "-c", "from flows.cli import main; main()"]
START_SECONDS = 180.0


@dataclass
class Service:
    """`tilewright serve` and the commands that talk to it.

    Parameters
    ----------
    folder : Path
        Holds the configuration, the service's home, `archive` and `out`.
    more : dict
        Of the configuration.
    secrets : dict of str
        Variables of the environment.
    """

    folder: Path
    more: dict[str, Any] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        for name in ("archive", "out"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.port, self.scheduler, dashboard, pages = free_ports(4)
        content = {
            "home": str(self.folder / "home"),
            "archives": [str(self.folder / "archive")],
            "outputs": [str(self.folder / "out")],
            "server": {"port": self.port},
            "cluster": {"port": self.scheduler, "dashboard_port": dashboard, "workers": 2},
            "pages": {"port": pages},
            "runs": {"disk_reserve_gib": 0.1},
        }
        for key, value in self.more.items():
            known = content.get(key)
            content[key] = {**known, **value} if isinstance(known, dict) else value
        self.dashboard = f"http://127.0.0.1:{dashboard}/status"
        self.pages = f"http://127.0.0.1:{pages}"
        self.config = self.folder / "service.yaml"
        self.config.write_text(yaml.safe_dump(content))

    @property
    def url(self) -> str:
        """Pages of the Prefect server."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it offers its recipes."""
        with (self.folder / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "serve"], stdout=log, stderr=log, env=self.environment()
            )
        self.wait(self.offers, START_SECONDS)

    def stop(self) -> int:
        """Stop it as Ctrl-C does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(90)

    def kill(self) -> None:
        """End it as a crash does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def __call__(self, *arguments: object, expect: int = 0) -> str:
        """Run a command; returns what it said."""
        done = subprocess.run(
            [*COMMAND, *map(str, arguments)],
            capture_output=True,
            text=True,
            env=self.environment(),
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == expect, said
        assert "Traceback" not in said, said
        return said

    def ask(self, path: str, body: object = None) -> Any:
        """Ask Prefect's API."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if password := self.secrets.get("TILEWRIGHT_SERVER__PASSWORD"):
            headers["Authorization"] = f"Basic {b64encode(password.encode()).decode()}"
        request = urllib.request.Request(f"{self.url}/api{path}", data, headers)
        for pause in (1.0, 2.0, 5.0, None):
            try:
                with urllib.request.urlopen(request, timeout=20) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                # SQLite is busy: Prefect's own client tries again, too.
                if error.code != 503 or pause is None:
                    raise
                time.sleep(pause)
        return None

    def offers(self) -> bool:
        """Whether all can be run: what is offered last."""
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        try:
            return bool(self.deployment("evaluate-labels/labels-and-truth"))
        except OSError:
            return False

    def deployment(self, name: str) -> dict[str, Any]:
        """What the service offers under a name."""
        found: dict[str, Any] = self.ask(f"/deployments/name/{name}")
        return found

    def runs(self) -> list[dict[str, Any]]:
        """All runs, the newest first."""
        found: list[dict[str, Any]] = self.ask("/flow_runs/filter", {"sort": "START_TIME_DESC"})
        return found

    def state(self, run_id: str) -> str:
        """The name of a run's state."""
        return str(self.ask(f"/flow_runs/{run_id}")["state"]["name"])

    def message(self, run_id: str) -> str:
        """What a run's state says."""
        return str(self.ask(f"/flow_runs/{run_id}")["state"]["message"])

    def environment(self) -> dict[str, str]:
        """The user's, without settings of other services."""
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("PREFECT_", "TILEWRIGHT_"))
        }
        home = str(self.folder)
        own = {"HOME": home, "TILEWRIGHT_CONFIG": str(self.config), "NO_COLOR": "1"}
        return {**kept, **own, **self.secrets}

    def log(self) -> str:
        """What it has said."""
        return (self.folder / "serve.log").read_text()

    @staticmethod
    def wait(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
        """Try until a condition holds; returns what it gave."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, f"not within {seconds:.0f} s"
            time.sleep(0.2)
        return found


def free_ports(count: int) -> list[int]:
    """Ports of this machine that are free now."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
