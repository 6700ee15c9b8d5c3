"""The units of the service: which process each is, and how it is started.

Every engine is an existing one. `tilewright serve` starts all units on one machine; the same
command starts one of them on a machine or in a container of its own.

    server      Prefect: API, pages, schedules, automations
    scheduler   Dask's scheduler and dashboard
    workers     Dask workers for tiles, one process a core
    gpu-workers Dask workers with a GPU each
    runner      Prefect worker: starts the runs, each in a process
    pages       reports and metrics
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flows.service import keys
from flows.service.names import POOL
from flows.service.settings import Settings, reachable
from workers.forkserver import WORKER_ENVIRONMENT
from workers.gpu import ORDERS_PER_GPU, gpu_environment, gpus

#: Seconds between two heartbeats of a run, the least that Prefect has.
HEARTBEAT_SECONDS = 30

#: What Dask's processes have in their configuration, with the reasons in `workers.embedded`.
DASK = {
    "DASK_DISTRIBUTED__WORKER__MEMORY__TARGET": "False",
    "DASK_DISTRIBUTED__WORKER__MEMORY__SPILL": "False",
    "DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE": "False",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "2",
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION": "1.0",
    "DASK_DISTRIBUTED__SCHEDULER__NO_WORKERS_TIMEOUT": "120s",
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__GIL__ENABLED": "False",
}


@dataclass(frozen=True, slots=True)
class Unit:
    """A process of the service.

    Parameters
    ----------
    name : str
    command : list of str
    environment : dict of str
        Beside that of the supervisor.
    reads_settings : bool
        Whether it reads the configuration; others are not shown its secrets.
    reads_stores : bool
        Whether it reads archives and outputs; others are not given the keys of stores.
    ready_url : str
        Answers when the unit is ready; empty: it is as soon as it runs.
    host, port : str, int
        What is listened at when it is ready; port 0: none.
    once : bool
        Whether it is done when it ends with status 0, and is not started again.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    reads_settings: bool = False
    reads_stores: bool = False
    ready_url: str = ""
    host: str = "127.0.0.1"
    port: int = 0
    once: bool = False


def units(settings: Settings, wanted: Sequence[str] = ()) -> list[Unit]:
    """The units by their names, in the order in which they start; by default all."""
    names = list(wanted) or list(MAKERS)
    found = [unit for name in MAKERS if name in names for unit in MAKERS[name](settings)]
    return found


def server(settings: Settings) -> list[Unit]:
    """Prefect's server with all its services."""
    own = settings.server
    environment = {
        "PREFECT_HOME": str(settings.home / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_API_HOST": own.host,
        "PREFECT_SERVER_API_PORT": str(own.port),
        # The page asks the server that it came from, by whatever name that was reached.
        "PREFECT_SERVER_UI_API_URL": "/api",
        # For links in notices.
        "PREFECT_UI_URL": own.api_url.removesuffix("/api"),
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        # A minute by default: a schedule that was just made would not fire before.
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "15",
        # Heartbeats are events: a week of them is enough.
        "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P7D",
        "DO_NOT_TRACK": "1",
    }
    if own.database is not None:
        environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = own.database.get_secret_value()
    if own.password is not None:
        environment["PREFECT_SERVER_API_AUTH_STRING"] = own.password.get_secret_value()
    command = [*_python("prefect"), "server", "start", "--host", own.host, "--port", str(own.port)]
    # Its health asks for no password. `own.url` may lead here only when this is ready.
    ready = f"http://{reachable(own.host)}:{own.port}/api/health"
    return [Unit("server", command, environment, ready_url=ready)]


def scheduler(settings: Settings) -> list[Unit]:
    """Dask's scheduler, which speaks with those alone that have a key of the service."""
    own = settings.cluster
    command = [*_python("distributed.cli.dask_scheduler"), "--protocol", "tls"]
    command += ["--host", own.host, "--port", str(own.port), *_tls(settings)]
    command += ["--dashboard-address", f"{own.dashboard_host}:{own.dashboard_port}"]
    return [Unit("scheduler", command, DASK, host=reachable(own.host), port=own.port)]


def workers(settings: Settings) -> list[Unit]:
    """A process a core, for tiles."""
    own = settings.cluster
    count = own.workers or len(os.sched_getaffinity(0))
    options = ["--nworkers", str(count), "--nthreads", "1", "--resources", "CPU=1"]
    return [_worker(settings, "workers", options, {}, own.worker_name)]


def gpu_workers(settings: Settings) -> list[Unit]:
    """A process for each GPU of this machine; none without GPUs."""
    own = settings.cluster
    chosen = gpus() if own.gpus is None else own.gpus
    options = ["--nworkers", "1", "--nthreads", str(ORDERS_PER_GPU)]
    options += ["--resources", f"GPU={ORDERS_PER_GPU}"]
    given = own.worker_name
    names = [given if len(chosen) == 1 else given and f"{given}-{n}" for n in chosen]
    return [
        _worker(settings, f"gpu-worker-{n}", options, gpu_environment(n), name)
        for n, name in zip(chosen, names, strict=True)
    ]


def runner(settings: Settings) -> list[Unit]:
    """Prefect's worker, which starts each run in a process of its own."""
    command = [*_python("flows.service.runner"), *_python("prefect"), "worker", "start"]
    command += ["--pool", POOL, "--type", "process"]
    command += ["--limit", str(settings.runs.at_once), "--name", f"tilewright-{platform.node()}"]
    command += ["--install-policy", "never"]
    environment = {
        **client_environment(settings),
        "PREFECT_WORKER_QUERY_SECONDS": "3",
        # Threads of a training that wait for each other must not keep workers from their cores.
        "OMP_WAIT_POLICY": "PASSIVE",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        "PREFECT_LOGGING_EXTRA_LOGGERS": "pipeline,workers,flows,distributed.worker",
    }
    if settings.runs.health_port is not None:
        command.append("--with-healthcheck")
        environment["PREFECT_WORKER_WEBSERVER_PORT"] = str(settings.runs.health_port)
    return [Unit("runner", command, environment, reads_settings=True, reads_stores=True)]


def pages(settings: Settings) -> list[Unit]:
    """Reports and metrics."""
    own = settings.pages
    command, environment = _python("flows.service.pages"), client_environment(settings)
    ready = f"http://{reachable(own.host)}:{own.port}/health"
    unit = Unit("pages", command, environment, True, reads_stores=True, ready_url=ready)
    return [unit]


#: In the order in which they start.
MAKERS: dict[str, Callable[[Settings], list[Unit]]] = {
    "server": server,
    "scheduler": scheduler,
    "workers": workers,
    "gpu-workers": gpu_workers,
    "runner": runner,
    "pages": pages,
}


def client_environment(settings: Settings) -> dict[str, str]:
    """What processes that ask the server, and runs, have in their environment."""
    environment = {
        "PREFECT_HOME": str(settings.home / "prefect"),
        "PREFECT_API_URL": settings.server.api_url,
        "DO_NOT_TRACK": "1",
    }
    if settings.server.password is not None:
        environment["PREFECT_API_AUTH_STRING"] = settings.server.password.get_secret_value()
    return environment


def _worker(
    settings: Settings,
    unit: str,
    options: Sequence[str],
    environment: Mapping[str, str],
    name: str | None,
) -> Unit:
    own = settings.cluster
    command = [*_python("distributed.cli.dask_worker"), own.address, *options, *_tls(settings)]
    limit = f"{own.memory_gib} GiB" if own.memory_gib else "0"
    command += ["--memory-limit", limit, "--no-dashboard"]
    command += ["--local-directory", str(settings.home / "dask")]
    command += ["--name", name] if name else []
    lifetime = own.lifetime_minutes
    if lifetime is not None:
        # Not all at once: those that are left take over.
        command += ["--lifetime", f"{lifetime} minutes"]
        command += ["--lifetime-stagger", f"{lifetime / 10} minutes"]
    once = lifetime is not None
    own_environment = {**DASK, **WORKER_ENVIRONMENT, **environment}
    return Unit(unit, command, own_environment, reads_stores=True, once=once)


def _tls(settings: Settings) -> list[str]:
    ca, certificate, key = keys.key_files(settings.keys)
    return ["--tls-ca-file", str(ca), "--tls-cert", str(certificate), "--tls-key", str(key)]


def _python(module: str) -> list[str]:
    return [str(Path(sys.executable)), "-m", module]
