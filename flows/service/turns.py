"""Runs that use GPUs wait for their turn, where the configuration limits them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound

from flows.service.settings import Settings

#: Name of the limit, which Prefect's page Concurrency shows.
GPU_RUNS = "tilewright-gpu-runs"
#: A run that dies keeps its turn for so long, the least that Prefect has.
LEASE_SECONDS = 60.0


def limit_gpu_runs(client: SyncPrefectClient, settings: Settings) -> None:
    """Make or change the limit; without one there is none."""
    limit = settings.runs.gpu_at_once
    if limit is not None:
        client.upsert_global_concurrency_limit_by_name(GPU_RUNS, limit)
        return
    with suppress(ObjectNotFound):
        client.delete_global_concurrency_limit_by_name(GPU_RUNS)


@contextmanager
def gpu_turn(wanted: bool, settings: Settings) -> Iterator[None]:
    """Hold a turn for as long as the context lasts, if GPUs are wanted.

    A turn whose lease cannot be renewed is no reason to stop: the limit spares memory, and does
    not keep results right.
    """
    if settings.runs.gpu_at_once is None or not wanted:
        yield
        return
    get_run_logger().info(
        "This run computes on GPUs: %d such runs go on at once.", settings.runs.gpu_at_once
    )
    with concurrency(GPU_RUNS, lease_duration=LEASE_SECONDS, raise_on_lease_renewal_failure=False):
        yield
