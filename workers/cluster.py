"""The Dask cluster of one command: an embedded one, or a scheduler that already runs.

Importing this module costs a few milliseconds: distributed (0.6 s) is imported on first use, so
that `start_forkserver` can run before it. What is heavy is then imported twice at the same time,
here and in the fork server, and a worker is a fork (0.1 s) instead of a new interpreter.

Process start to first result with 2 workers on 2 cores: 1.5 s when `start_forkserver` comes first,
1.8 s when it comes with `open_cluster`, 2.5 s with LocalCluster's defaults (spawned workers,
dashboard at once). Opening alone: 0.6 s against 1.7 s, and with 8 workers 1.6 s against 6.2 s.
TLS is 0.3 s of it.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import forkserver, get_context
from typing import TYPE_CHECKING

from pipeline.errors import TilewrightError
from workers.gpu import ORDERS_PER_GPU, gpu_environment
from workers.orphans import end_with_parent
from workers.versions import check_versions

if TYPE_CHECKING:
    from distributed import Client, LocalCluster
    from distributed.security import Security

log = logging.getLogger(__name__)

WORKER_ENVIRONMENT: Mapping[str, str] = {
    # Dask sets the trim threshold to 64 KiB; 256 MiB made tiles 1.5x faster (RSS 297 -> 414 MB).
    "MALLOC_TRIM_THRESHOLD_": "268435456",
    "MALLOC_MMAP_THRESHOLD_": "268435456",
    # A task runs in a thread, and the arenas of threads come in heaps of 64 MiB that few tiles'
    # arrays fit into: one arena made tiles 1.2x faster and the peak 20 % lower (375 -> 304 MB).
    "MALLOC_ARENA_MAX": "1",
    # One process per core: a thread pool in each would oversubscribe the machine.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    # A folder named `pipeline` in the user's working directory must not be imported for ours.
    "PYTHONSAFEPATH": "1",
}
"""What a worker process has in its environment before its first instruction."""

PRELOAD = ("distributed", "distributed.nanny", "distributed.worker", "numpy")
"""What the fork server always imports; distributed alone is 0.6 s of a worker's start."""

CONNECT_SECONDS = 5.0
CLOSE_SECONDS = 2.0
DASHBOARD_DELAY_SECONDS = 5.0

_forkserver_is_ours = False


def start_forkserver(preload: Sequence[str] = ()) -> None:
    """Start the process that embedded workers are forked from, and return at once (40 ms).

    Call it first of all, before anything heavy is imported; later calls do nothing.

    Parameters
    ----------
    preload : sequence of str
        Modules that tiles need, imported there once and shared by all workers copy-on-write. For
        zarr, numba, scikit-image and their like the first tile comes back 1.5-2 s earlier, and a
        worker has 24 MB of its own instead of 81. A module that cannot be imported is left out
        silently. None may start threads when imported, because a fork copies the locks that such
        a thread holds and not the thread (pyarrow's jemalloc does, and handles forks itself).
    """
    global _forkserver_is_ours
    if _forkserver_is_ours or _forkserver_runs() or not sys.platform.startswith("linux"):
        return
    get_context("forkserver").set_forkserver_preload([*PRELOAD, *preload])
    # glibc reads MALLOC_* when a program starts, so they are set before this exec or never.
    with _environment(WORKER_ENVIRONMENT):
        forkserver.ensure_running()
    _forkserver_is_ours = True


@contextmanager
def open_cluster(
    workers: int | None,
    scheduler: str | None,
    memory_limit_bytes: int | None = None,
    preload: Sequence[str] = (),
    gpus: Sequence[str] = (),
    security: Security | None = None,
) -> Iterator[Client]:
    """Connect to `scheduler`, or run an embedded cluster for as long as the context lasts.

    Parameters
    ----------
    workers : int or None
        Single-threaded worker processes of the embedded cluster; None is one a core that this
        process may use. Ignored with a `scheduler`.
    scheduler : str or None
        Address of a running scheduler, such as ``tcp://10.0.0.1:8786``. None embeds one, on
        loopback and behind TLS with a throw-away key, because who reaches a Dask port can run code.
    memory_limit_bytes : int, optional
        Limit of *each* embedded worker; at 95 % of it the worker is killed and its batch retried.
    preload : sequence of str
        As in `start_forkserver`, of no effect if that was called before.
    gpus : sequence of str
        GPUs of the embedded cluster, see `workers.gpu.gpus`. Each gets a worker process beside the
        others, which takes `ORDERS_PER_GPU` orders for a GPU at once.
    security : Security, optional
        What is shown to a `scheduler` behind TLS; by default Dask's configuration says.

    Yields
    ------
    Client
        Not Dask's default client, and safe to use from several threads.

    Raises
    ------
    TilewrightError
        The scheduler does not answer, or its workers run other versions.
    """
    if scheduler is not None:
        with _connected(scheduler, security) as client:
            _forward_warnings(client)
            yield client
        return
    start_forkserver(preload)
    if workers is not None and workers < 1:
        raise TilewrightError(f"workers is {workers}: at least 1 worker process is needed.")
    with _embedded(workers, memory_limit_bytes, gpus) as client:
        _forward_warnings(client)
        yield client


def _forward_warnings(client: Client) -> None:
    """Let this process log what workers warn of, also those that come later."""
    client.forward_logging("pipeline", logging.WARNING)


def capacity(client: Client) -> tuple[int, int]:
    """Threads of all workers, and the memory that each may use in bytes (0: not limited)."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    threads = sum(int(worker["nthreads"]) for worker in workers)
    shares = [
        int(worker["memory_limit"]) // max(1, int(worker["nthreads"]))
        for worker in workers
        if worker["memory_limit"]
    ]
    return max(1, threads), min(shares, default=0)


@contextmanager
def _embedded(
    workers: int | None, memory_limit_bytes: int | None, gpus: Sequence[str]
) -> Iterator[Client]:
    """Run scheduler and nannies in threads of this process, each worker in its own process."""
    import dask  # noqa: PLC0415  see the module's docstring
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

    if not _forkserver_is_ours:
        log.debug("workers are spawned: another fork server runs, or this is not Linux")
    # Else distributed imports all it knows, pandas too, here and in the fork server: +0.6 s.
    utils._forkserver_preload_set = True
    return {
        "distributed.worker.multiprocessing-method": (
            "forkserver" if _forkserver_is_ours else "spawn"
        ),
        "distributed.worker.preload": [__name__],
        "distributed.nanny.pre-spawn-environ": {} if _forkserver_is_ours else WORKER_ENVIRONMENT,
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


@contextmanager
def _connected(address: str, security: Security | None) -> Iterator[Client]:
    """Connect to a running scheduler and compare versions."""
    from distributed import Client  # noqa: PLC0415

    try:
        with _silent("distributed"):
            client = Client(
                address,
                timeout=CONNECT_SECONDS,
                set_as_default=False,
                name="tilewright",
                security=security,
            )
    except (OSError, TimeoutError, ValueError, TypeError) as error:
        raise TilewrightError(
            f"{address}: no Dask scheduler answers within {CONNECT_SECONDS:.0f} s ({error}). "
            "Check the address, that the scheduler runs, and its TLS settings; "
            "or leave the address out to run on this machine."
        ) from error
    try:
        check_versions(client, address)
        yield client
    finally:
        client.close()


def _forkserver_runs() -> bool:
    """Tell whether someone else started the fork server, without our environment."""
    server = getattr(forkserver, "_forkserver", None)
    return getattr(server, "_forkserver_pid", None) is not None


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, and put back what was there."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _silent(name: str) -> Iterator[None]:
    """Keep a library from logging what the raised error says better."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
