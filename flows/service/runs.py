"""The flows that the service deploys. Import this module when PREFECT_API_URL is set.

Their docstrings tell of arguments as Prefect reads them, for its forms.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.events import emit_event
from prefect.runtime import flow_run
from pydantic import Field

from flows.request import Request
from flows.run import claimed, opened_run
from flows.segment import RUNNER, perform_stages
from flows.service.arrivals import Arrivals, signer
from flows.service.automations import QUARANTINED
from flows.service.doors import allowed_archive, allowed_output, allowed_recipe
from flows.service.keys import security
from flows.service.known import remember
from flows.service.links import announce
from flows.service.names import SEGMENT
from flows.service.settings import Settings, load_settings
from flows.service.turns import gpu_turn
from flows.service.worker_logs import LOGGERS, show_in_run
from pipeline.errors import BusyError, ClusterError, EmptyArchiveError, PlanError, TilewrightError
from pipeline.labels_recipe import parse_any_recipe
from pipeline.run_folder import RunFolder
from pipeline.sources import discover
from pipeline.storage import AnyPath, StorePath, path_of
from workers.orphans import end_with_parent

#: Before the first new attempt after a fault that may pass; doubles each time.
PAUSE_SECONDS = 30.0
#: A run whose process dies is started again up to so many times.
STARTS = 5
#: Images that are named in the log one by one.
LISTED = 50

SettleSeconds = Annotated[float, Field(ge=0, le=86400)]
TilePx = Annotated[int | None, Field(ge=16)]


def run_name() -> str:
    """What a run is called in lists: the recipe, and the archive or image."""
    given = flow_run.parameters
    recipe = given.get("recipe") or {}
    place = Path(str(given.get("archive") or given.get("image")))
    return f"{recipe.get('label') or 'labels'}: {place.name}"


@flow(
    name=SEGMENT,
    flow_run_name=run_name,
    task_runner=RUNNER,
    persist_result=False,
)
def segment_archive(
    archive: str,
    out: str,
    recipe: dict[str, Any],
    only: str | None = None,
    tile_px: TilePx = None,
    fresh: bool = False,
) -> None:
    """Segment an archive: OME-Zarr labels, an object table, a report.

    A run of the same recipe, archive and folder continues where an earlier one stopped.

    Args:
        archive: An image, or a folder that is searched; absolute, or an address.
        out: Where results go; a run of the same request continues there.
        recipe: What is done.
        only: Only images whose name matches this glob.
        tile_px: Side of a tile's core in px; by default from the memory.
        fresh: Set aside what the folder holds, and start over.
    """
    _segment(archive, out, recipe, only, tile_px, fresh)


@flow(
    name="segment-image",
    flow_run_name=run_name,
    task_runner=RUNNER,
    persist_result=False,
)
def segment_image(
    image: str,
    out: str,
    recipe: dict[str, Any],
    tile_px: TilePx = None,
    fresh: bool = False,
) -> None:
    """Segment one image, such as to try a recipe.

    Args:
        image: A file or an OME-Zarr folder; absolute, or an address.
        out: Where results go; a run of the same request continues there.
        recipe: What is done.
        tile_px: Side of a tile's core in px; by default from the memory.
        fresh: Set aside what the folder holds, and start over.
    """
    _segment(image, out, recipe, None, tile_px, fresh)


def _segment(
    archive: str,
    out: str,
    recipe: dict[str, Any],
    only: str | None,
    tile_px: int | None,
    fresh: bool,
) -> None:
    begin()
    settings = load_settings()
    place = allowed_archive(path_of(archive), settings)
    target = allowed_output(path_of(out), settings)
    request = Request(
        allowed_recipe(parse_any_recipe(recipe, "recipe"), place, settings),
        place,
        target,
        tile_px,
        scheduler=settings.cluster.address,
        fresh=fresh,
        only=only,
        work=work_of(target, settings),
    )
    check_reserve(request.out, settings)
    follow(request, settings)


@flow(
    name="watch-archive",
    flow_run_name=run_name,
    task_runner=RUNNER,
    persist_result=False,
)
def watch_archive(
    archive: str,
    out: str,
    recipe: dict[str, Any],
    settle_seconds: SettleSeconds = 60.0,
    checksums: bool = True,
) -> str:
    """Segment what is new or changed in an archive since the last look; meant for a schedule.

    Files that are still being written wait for the next look. Images that were taken out of the
    archive are named in the log, and their results stay.

    Args:
        archive: A folder that images arrive in; absolute, or an address.
        out: Where results go.
        recipe: What is done.
        settle_seconds: A file is taken when it did not change for so long.
        checksums: Read each file once more, so that one that was copied again is not done again.
    """
    begin()
    settings = load_settings()
    place = allowed_archive(path_of(archive), settings)
    target = allowed_output(path_of(out), settings)
    request = Request(
        allowed_recipe(parse_any_recipe(recipe, "recipe"), place, settings),
        place,
        target,
        scheduler=settings.cluster.address,
        paths=frozenset(),
        work=work_of(target, settings),
    )
    try:
        return _watch(request, settings, settle_seconds, checksums)
    except BusyError as error:
        # Another look, or a run by hand, is at it: what it leaves is for the next look.
        get_run_logger().info("%s", error)
        return "busy"


def _watch(request: Request, settings: Settings, settle_seconds: float, checksums: bool) -> str:
    said = get_run_logger()
    arrivals = Arrivals(RunFolder(request.out).local / "arrivals.sqlite")
    try:
        try:
            paths = [spec.path for spec in discover(request.archive)]
        except EmptyArchiveError as error:
            said.info("%s", error)  # nothing has arrived yet
            paths = []
        sign = signer(request.archive, paths)
        looked = arrivals.look(paths, settle_seconds, time.time(), sign)
        for path in looked.removed[:LISTED]:
            said.warning("%s: was taken out of the archive; its results stay", path)
        ready = arrivals.without_copies(looked.ready) if checksums else looked.ready
        said.info(
            "%d images there, %d to do, %d may still be written, %d were taken out",
            len(paths),
            len(ready),
            looked.waiting,
            len(looked.removed),
        )
        if ready:
            check_reserve(request.out, settings)
            follow(replace(request, paths=frozenset(ready)), settings)
            arrivals.finish(ready)
        return f"{len(ready)} done, {looked.waiting} waiting"
    finally:
        arrivals.close()


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
            record = _attempt(request, settings)
        except ClusterError as error:
            if left == 0:
                raise
            get_run_logger().warning(
                "%s It is tried again in %.0f s, %d times at most.", error, pause, left
            )
            request = replace(request, fresh=False)
            time.sleep(pause)
            pause, left = 2 * pause, left - 1
        else:
            _tell_of_refused(record, settings)
            return record


def _attempt(request: Request, settings: Settings) -> dict[str, Any]:
    """Run a request to its end; returns the content of run.json."""
    shown, room = security(settings.keys), partial(check_reserve, request.out, settings)
    with (
        claimed(request) as (folder, manifest),
        gpu_turn(request.recipe.wants_gpu(), settings),
        opened_run(request, folder, manifest, time.time(), shown, room) as run,
    ):
        remember(request, settings.home)
        announce(request, settings)
        perform_stages(run)
    return folder.read_run()


def _tell_of_refused(record: dict[str, Any], settings: Settings) -> None:
    """Say so if many images were refused; an automation tells people."""
    images, refused = record["counts"]["images"], record["counts"]["quarantined"]
    if images and 100 * refused > settings.runs.quarantine_percent * images:
        message = f"{refused} of {images} images were refused; the report says why."
        get_run_logger().warning(message)
        own = {"prefect.resource.id": f"tilewright.run.{flow_run.id}"}
        emit_event(QUARANTINED, own, payload={"message": message})


def work_of(out: AnyPath, settings: Settings) -> AnyPath | None:
    """Where the unfinished work of an output in a store is kept; None where a run keeps it itself.

    Each output has a folder of its own there: `--fresh` empties it.
    """
    if settings.work is None or isinstance(out, Path):
        return None
    return settings.work / RunFolder(out).local.name


def check_reserve(out: AnyPath, settings: Settings) -> None:
    """Refuse to begin on a disk that is nearly full.

    Raises
    ------
    PlanError
        With what is free, and what must be.
    """
    # A store has no end, but the disk has one where the work for it is unfinished.
    place = out if isinstance(out, Path) else RunFolder(out, work_of(out, settings)).work
    if isinstance(place, StorePath):
        return
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    status = os.statvfs(there)
    free = status.f_bavail * status.f_frsize / 2**30
    if free < settings.runs.disk_reserve_gib:
        raise PlanError(
            f"{place}: {free:.1f} GiB are free on this disk, less than the "
            f"{settings.runs.disk_reserve_gib:g} GiB that runs leave free (runs.disk_reserve_gib). "
            "Free some space, or choose another disk."
        )


def begin() -> None:
    """Set up the process of a run.

    It must not outlive the runner that answers for it: the service would start it again.
    """
    for name in LOGGERS:  # Prefect shows what they log
        logging.getLogger(name).setLevel(logging.INFO)
    show_in_run(str(flow_run.id))
    if flow_run.run_count > STARTS:
        raise TilewrightError(
            f"The run has ended {STARTS} times without a result, and is given up. The log of the "
            "runner may say why, such as memory that ran out. A new run of the same request "
            "continues: what is finished is kept."
        )
    if "PREFECT__FLOW_RUN_ID" in os.environ:
        end_with_parent(signal.SIGKILL)
