"""The flows that the service deploys. Import this module when PREFECT_API_URL is set."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.runtime import flow_run

from flows.request import Request
from flows.run import opened_run
from flows.segment import RUNNER, perform_stages
from flows.service.doors import allowed_archive, allowed_output
from flows.service.keys import security
from flows.service.known import remember
from flows.service.notes import announce
from flows.service.settings import Settings, load_settings
from pipeline.errors import ClusterError, PlanError
from pipeline.recipe import parse_recipe

log = logging.getLogger(__name__)

#: Before the first new attempt after a fault that may pass; doubles each time.
PAUSE_SECONDS = 30.0
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def run_name() -> str:
    """What a run is called in lists: the recipe and the archive."""
    given = flow_run.parameters
    recipe = given.get("recipe") or {}
    return f"{recipe.get('label') or 'labels'}: {Path(str(given.get('archive'))).name}"


@flow(
    name="segment-dataset",
    flow_run_name=run_name,
    task_runner=RUNNER,
    persist_result=False,
)
def segment_archive(
    recipe: dict[str, Any],
    archive: str,
    out: str,
    only: str | None = None,
    tile_px: int | None = None,
    fresh: bool = False,
) -> None:
    """Segment an archive: OME-Zarr labels, an object table, a report.

    A run of the same recipe, archive and folder continues where an earlier one stopped.
    """
    _end_with_runner()
    settings = load_settings()
    parsed = parse_recipe(recipe, "recipe")
    request = Request(
        parsed,
        allowed_archive(Path(archive), settings),
        allowed_output(Path(out), settings),
        tile_px,
        scheduler=settings.cluster.address,
        fresh=fresh,
        only=only,
    )
    check_reserve(request.out, settings)
    follow(request, settings)


def follow(request: Request, settings: Settings) -> dict[str, Any]:
    """Run a request on the service's cluster; what may pass is tried again.

    Returns
    -------
    dict
        The content of run.json.
    """
    pause, left = PAUSE_SECONDS, settings.runs.retries
    while True:
        try:
            shown = security(settings.keys)
            with opened_run(request, time.time(), shown) as run, _stopped_with(run.stopped.set):
                remember(request, settings.home)
                announce(request, settings)
                perform_stages(run)
            return run.folder.read_run()
        except ClusterError as error:
            if left == 0:
                raise
            get_run_logger().warning(
                "%s It is tried again in %.0f s, %d times at most.", error, pause, left
            )
            request = replace(request, fresh=False)
            time.sleep(pause)
            pause, left = 2 * pause, left - 1


def check_reserve(out: Path, settings: Settings) -> None:
    """Refuse to begin on a disk that is nearly full.

    Raises
    ------
    PlanError
        With what is free, and what must be.
    """
    there = next(folder for folder in (out, *out.parents) if folder.exists())
    status = os.statvfs(there)
    free = status.f_bavail * status.f_frsize / 2**30
    if free < settings.runs.disk_reserve_gib:
        raise PlanError(
            f"{out}: {free:.1f} GiB are free on this disk, less than the "
            f"{settings.runs.disk_reserve_gib:g} GiB that runs leave free (runs.disk_reserve_gib). "
            "Free some space, or choose another disk."
        )


@contextmanager
def _stopped_with(stop: Callable[[], None]) -> Iterator[None]:
    """Stop the threads of the stages when this one is told to end, so that it need not wait."""
    try:
        yield
    except BaseException:
        stop()
        raise


def _end_with_runner() -> None:
    """A run must not outlive the runner that answers for it: the service would start it again."""
    if "PREFECT__FLOW_RUN_ID" in os.environ:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
