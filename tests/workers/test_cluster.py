"""The embedded cluster: where it listens, what its workers have, and that nothing outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline import __version__
from pipeline.errors import TilewrightError
from workers import cluster, embedded, versions
from workers.cluster import open_cluster
from workers.forkserver import WORKER_ENVIRONMENT, start_forkserver

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with open_cluster(2, None, memory_limit_bytes=1 << 30) as opened:
        yield opened


def malloc_environment() -> dict[str, str]:
    """Environment of this process as it was when its program started (fork server's exec)."""
    pairs = Path("/proc/self/environ").read_bytes().decode().split("\0")
    found = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    return {name: found.get(name, "") for name in WORKER_ENVIRONMENT}


def test_workers_are_single_threaded_processes(client: Any) -> None:
    assert sorted(client.nthreads().values()) == [1, 1]
    pids = set(client.run(os.getpid).values())
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_environment_is_there_before_the_first_instruction(client: Any) -> None:
    # /proc/self/environ of a forked worker is its fork server's, which is what glibc has read.
    for found in client.run(malloc_environment).values():
        assert found == dict(WORKER_ENVIRONMENT)
    for found in client.run(lambda: dict(os.environ)).values():
        assert found.items() >= WORKER_ENVIRONMENT.items()


def test_own_environment_is_left_alone(client: Any) -> None:
    assert "MALLOC_TRIM_THRESHOLD_" not in os.environ
    assert "PYTHONSAFEPATH" not in os.environ


def test_nothing_listens_beyond_loopback(client: Any) -> None:
    processes = [psutil.Process(pid) for pid in client.run(os.getpid).values()]
    processes.append(psutil.Process())
    sockets = [
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(sockets) >= 5  # scheduler, dashboard, 2 nannies' and workers' ports
    assert set(sockets) == {"127.0.0.1"}


def test_scheduler_port_needs_a_certificate(client: Any) -> None:
    assert client.scheduler.address.startswith("tls://127.0.0.1:")


def test_memory_thresholds(client: Any) -> None:
    def thresholds(dask_worker: Any) -> tuple[object, ...]:
        memory = dask_worker.memory_manager
        return (
            memory.memory_limit,
            memory.memory_target_fraction,
            memory.memory_spill_fraction,
            memory.memory_pause_fraction,
        )

    assert set(client.run(thresholds).values()) == {(1 << 30, False, False, False)}
    nannies = client.run(
        lambda dask_worker: dask_worker.memory_manager.memory_terminate_fraction, nanny=True
    )
    assert set(nannies.values()) == {0.95}


def test_interrupt_is_left_to_the_command(client: Any) -> None:
    future = client.submit(time.sleep, 0.5)
    for pid in client.run(os.getpid).values():
        os.kill(pid, signal.SIGINT)
    future.result()
    assert len(client.run(os.getpid)) == 2


def test_fork_server_has_one_thread(client: Any) -> None:
    # A fork copies only the forking thread: a lock held by another would stay locked.
    parents = {psutil.Process(pid).ppid() for pid in client.run(os.getpid).values()}
    assert len(parents) == 1
    assert psutil.Process(parents.pop()).num_threads() == 1


@pytest.mark.parametrize("workers", [0, -1])
def test_no_workers_is_refused(workers: int) -> None:
    with pytest.raises(TilewrightError, match=f"workers is {workers}"), open_cluster(workers, None):
        pass


def test_dashboard_is_mounted_late(monkeypatch: pytest.MonkeyPatch) -> None:
    import urllib.error
    import urllib.request

    monkeypatch.setattr(embedded, "DASHBOARD_DELAY_SECONDS", 0.0)
    with open_cluster(1, None) as opened:
        link = opened.cluster.dashboard_link
        assert link.startswith("http://127.0.0.1:")
        for _ in range(300):
            try:
                with urllib.request.urlopen(link) as page:
                    assert page.status == 200
                    return
            except urllib.error.HTTPError:
                time.sleep(0.1)
    pytest.fail("no dashboard after 30 s")


def test_close_does_not_wait_for_a_long_kernel() -> None:
    with open_cluster(1, None) as opened:
        future = opened.submit(time.sleep, 60)
        while not any(opened.processing().values()):
            time.sleep(0.05)
        pids = list(opened.run(os.getpid).values())
        began = time.monotonic()
    assert time.monotonic() - began < embedded.CLOSE_SECONDS + 3
    assert not any(psutil.pid_exists(pid) for pid in pids)
    del future


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "127.0.0.1:9", "nonsense"])
def test_unreachable_scheduler(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1.0)
    began = time.monotonic()
    with (
        pytest.raises(TilewrightError, match=f"{address}: no Dask scheduler"),
        open_cluster(None, address),
    ):
        pass
    assert time.monotonic() - began < 10


def test_other_versions_are_refused() -> None:
    theirs = {
        "tcp://a": {"tilewright": "0.0.1"},
        "tcp://b": {"tilewright": __version__},
        "tcp://c": {"tilewright": "not installed"},
    }
    with pytest.raises(TilewrightError) as caught:
        versions._refuse_differences("tcp://s", {"tilewright": __version__}, theirs)
    assert str(caught.value) == (
        f"tcp://s: tilewright is 0.0.1 on tcp://a and {__version__} here; "
        f"tilewright is not installed on tcp://c and {__version__} here. "
        "Install the same versions on the workers and here."
    )


CHILD = """
import os, time
from workers.cluster import open_cluster
if __name__ == "__main__":
    with open_cluster(2, None) as client:
        busy = client.map(sum, [range(10**11), range(10**11 + 1)])  # holds the GIL for an hour
        print("ready", flush=True)
        time.sleep(60)
"""


@pytest.mark.crash
def test_workers_die_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    time.sleep(0.5)  # until the workers are inside the kernel
    family = psutil.Process(child.pid).children(recursive=True)
    assert len(set(family)) == 4  # 2 workers, the fork server, the resource tracker
    child.send_signal(signal.SIGKILL)
    child.wait()
    _, alive = psutil.wait_procs(family, timeout=15)
    assert alive == []
    child.stdout.close()


def test_version_probe_runs_by_value() -> None:
    from distributed.protocol import pickle

    probe = pickle.loads(pickle.dumps(versions._version_probe()))
    assert probe() == __version__


def test_starting_the_fork_server_twice_is_harmless(client: Any) -> None:
    before = threading.active_count()
    start_forkserver(["no_such_module"])
    assert threading.active_count() == before
