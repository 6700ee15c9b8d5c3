"""The Dask cluster of one command: an embedded one, or a scheduler that already runs.

Process start to first result with 2 workers on 2 cores: 1.5 s when `start_forkserver` comes first,
1.8 s when it comes with `open_cluster`, 2.5 s with LocalCluster's defaults (spawned workers,
dashboard at once). Opening alone: 0.6 s against 1.7 s, and with 8 workers 1.6 s against 6.2 s.
TLS is 0.3 s of it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.errors import TilewrightError
from workers.embedded import embedded_cluster
from workers.forkserver import start_forkserver
from workers.versions import check_versions

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security

CONNECT_SECONDS = 5.0


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
    with embedded_cluster(workers, memory_limit_bytes, gpus) as client:
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
