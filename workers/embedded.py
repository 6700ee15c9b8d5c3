"""A Dask cluster in this process: scheduler and nannies in its threads, workers as its forks.

Dask loads this module in every worker, see `dask_setup`; what is heavy is imported on first use.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import forkserver
from typing import TYPE_CHECKING

from workers.forkserver import WORKER_ENVIRONMENT, is_ours
from workers.gpu import ORDERS_PER_GPU, gpu_environment
from workers.orphans import end_with_parent

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

log = logging.getLogger(__name__)

CLOSE_SECONDS = 2.0
DASHBOARD_DELAY_SECONDS = 5.0


@contextmanager
def embedded_cluster(
    workers: int | None, memory_limit_bytes: int | None, gpus: Sequence[str]
) -> Iterator[Client]:
    """Run scheduler and nannies in threads of this process, each worker in its own process."""
    import dask  # noqa: PLC0415  see `workers.forkserver`
    from dask.system import CPU_COUNT  # noqa: PLC0415  cgroup limits are counted too
    from distributed import Client, LocalCluster  # noqa: PLC0415

    with ExitStack() as stack:
        # Nannies read the configuration again when they restart a worker: it stays set.
        stack.enter_context(dask.config.set(_embedded_configuration()))
        cluster = LocalCluster(
            n_workers=workers or CPU_COUNT,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            # Importing bokeh takes 0.5-1.4 s, in front of the first worker: see below.
            scheduler_kwargs={"dashboard": False},
            memory_limit=memory_limit_bytes or 0,
            # What is not for a GPU asks for a CPU, which GPU workers do not have.
            resources={"CPU": 1} if gpus else None,
            # Below CRITICAL: heartbeats that fail because we close. Failed batches are data.
            silence_logs=logging.CRITICAL,
            security=True,
        )
        stack.callback(_close_cluster, cluster)
        if gpus:
            _add_gpu_workers(cluster, gpus)
        client = Client(cluster, set_as_default=False)
        stack.callback(client.close)
        timer = threading.Timer(DASHBOARD_DELAY_SECONDS, _mount_dashboard, (cluster,))
        timer.daemon = True
        timer.start()
        stack.callback(timer.cancel)
        yield client


def _add_gpu_workers(cluster: LocalCluster, gpus: Sequence[str]) -> None:
    """Start a worker process for each GPU, and do not wait for it."""
    (pattern,) = cluster.new_worker_spec().values()
    for gpu in gpus:
        options = {
            **pattern["options"],
            "nthreads": ORDERS_PER_GPU,
            "resources": {"GPU": ORDERS_PER_GPU},
            "memory_limit": ORDERS_PER_GPU * pattern["options"]["memory_limit"],
            "env": gpu_environment(gpu),
        }
        cluster.worker_spec[f"gpu-{gpu}"] = {**pattern, "options": options}
    cluster.scale(len(cluster.worker_spec))


def _embedded_configuration() -> dict[str, object]:
    """Return what differs from Dask's defaults, with the reason for each."""
    from distributed import utils  # noqa: PLC0415

    if not is_ours():
        log.debug("workers are spawned: another fork server runs, or this is not Linux")
    # Else distributed imports all it knows, pandas too, here and in the fork server: +0.6 s.
    utils._forkserver_preload_set = True
    return {
        "distributed.worker.multiprocessing-method": ("forkserver" if is_ours() else "spawn"),
        "distributed.worker.preload": [__name__],
        "distributed.nanny.pre-spawn-environ": {} if is_ours() else WORKER_ENVIRONMENT,
        # Tiles return small records: nothing to spill, and a paused worker would wait for ever.
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": 0.95,
        # A batch that kills its worker is tried three times in all, not four.
        "distributed.scheduler.allowed-failures": 2,
        # One task at a worker at a time, so that only the guilty one is blamed for its death.
        "distributed.scheduler.worker-saturation": 1.0,
        # The default waits for ever when no worker can take a task.
        "distributed.scheduler.no-workers-timeout": "120s",
        # The nanny sees a dead worker; a kernel that holds the GIL for minutes is no dead worker.
        "distributed.scheduler.worker-ttl": None,
        "distributed.worker.profile.enabled": False,
        "distributed.diagnostics.nvml": False,
        "distributed.admin.system-monitor.gil.enabled": False,
    }


def dask_setup(worker: object) -> None:
    """Tie this worker to the life of the command (Dask calls this in every worker).

    Ctrl-C goes to all processes of a terminal, but what it ends is the command's decision.

    Dask's own watch is a Python thread, which a kernel that holds the GIL keeps from running: after
    kill -9 of the command such workers lived on for as long as their tile took. Here the kernel
    kills the worker with the fork server, and the fork server ends with the command once no worker
    holds the pipe that says so. The signal is tied to the thread that forked: there is only one.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = getattr(forkserver, "_forkserver", None)
    alive_fd = getattr(server, "_forkserver_alive_fd", None)
    if alive_fd is None:
        return
    end_with_parent(signal.SIGKILL)
    os.close(alive_fd)
    server._forkserver_alive_fd = None  # type: ignore[union-attr]


def _mount_dashboard(cluster: LocalCluster) -> None:
    """Add the pages of the dashboard to the scheduler's HTTP server, which already listens."""
    try:
        from distributed.dashboard import scheduler as dashboard  # noqa: PLC0415
    except ImportError:
        log.info("no Dask dashboard: install bokeh")
        return
    scheduler = cluster.scheduler

    def connect() -> None:
        if str(cluster.status) == "Status.running":
            dashboard.connect(scheduler.http_application, scheduler.http_server, scheduler)

    with suppress(RuntimeError):  # the cluster was closed while bokeh was imported
        cluster.loop.add_callback(connect)


def _close_cluster(cluster: LocalCluster) -> None:
    """Close within `CLOSE_SECONDS`, even when a worker is inside a long kernel.

    Left alone, a nanny waits 4 s for the running task. What a task was writing is lost either way,
    and is written again by the next run because the manifest does not list it.
    """
    processes = [nanny.process for nanny in cluster.workers.values()]
    pids = [process.pid for process in processes if process is not None and process.pid]
    timer = threading.Timer(CLOSE_SECONDS, _kill, (pids,))
    timer.daemon = True
    timer.start()
    cluster.close()
    timer.cancel()


def _kill(pids: Sequence[int]) -> None:
    """Kill the processes that are left."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
