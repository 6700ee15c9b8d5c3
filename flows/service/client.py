"""What the commands ask of a service that runs: runs, schedules, a stop."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flows.service.names import ANY, POOL, SEGMENT, TAG
from flows.service.settings import Settings
from flows.service.units import client_environment
from pipeline.errors import RecipeError, TilewrightError
from pipeline.labels_recipe import AnyRecipe

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import DeploymentResponse

#: Characters of an error of Prefect that are shown.
SHOWN = 600
FOLLOW_SECONDS = 1.0
SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: the state's name and what Prefect says of it."""

    state: str
    message: str

    @property
    def is_completed(self) -> bool:
        return self.state == "Completed"


def use(settings: Settings) -> None:
    """Make Prefect in this process that of the service; call it before Prefect is imported."""
    environment = client_environment(settings)
    del environment["PREFECT_HOME"]  # that of the service may be on another machine
    os.environ.update(environment)


@contextmanager
def connected(settings: Settings) -> Iterator[SyncPrefectClient]:
    """Talk to the service; see `use`.

    Raises
    ------
    TilewrightError
        If it does not answer, or refuses the password.
    """
    from httpx import HTTPError, HTTPStatusError  # 2 s, with Prefect
    from prefect.client.orchestration import get_client

    url = settings.server.api_url
    try:
        with get_client(sync_client=True) as client:
            yield client
    except HTTPStatusError as error:
        if error.response.status_code not in (401, 403):
            raise TilewrightError(f"{url}: the service refused: {first(error)}") from error
        raise TilewrightError(
            f"{url}: the service asks for another password. Set TILEWRIGHT_SERVER__PASSWORD to "
            "the user:password that it was started with."
        ) from error
    except (HTTPError, RuntimeError, OSError) as error:
        if isinstance(error, RuntimeError) and "Failed to reach API" not in str(error):
            raise
        raise TilewrightError(
            f"{url}: no service answers ({error}). Start it with `tilewright serve`, or correct "
            "server.host and server.port of the configuration."
        ) from error


def submit(
    settings: Settings, recipe: AnyRecipe, parameters: dict[str, Any], queue: str
) -> tuple[str, str]:
    """Ask for a run; returns its id and the page that shows it."""
    given = {**parameters, "recipe": recipe.model_dump(mode="json")}
    with connected(settings) as client:
        deployment = _deployment(client, f"{SEGMENT}/{ANY}")
        run = client.create_flow_run_from_deployment(
            deployment, parameters=given, work_queue_name=queue
        )
    return str(run.id), run_page(settings, str(run.id))


def follow(settings: Settings, run_id: str, say: Callable[[str], None]) -> Ended:
    """Say how a run goes, until it has ended."""
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    shown = ""
    with connected(settings) as client:
        while True:
            run = _run(client, run_id)
            state = run.state
            assert state is not None
            its = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
            bars = [a for a in client.read_artifacts(artifact_filter=its) if a.type == "progress"]
            line = str(bars[0].description) if bars else str(state.name)
            if line != shown:
                say(line)
                shown = line
            if state.is_final():
                return Ended(str(state.name), state.message or "")
            time.sleep(FOLLOW_SECONDS)


def cancel(settings: Settings, run_id: str) -> None:
    """Stop a run; what it finished is kept."""
    from prefect.states import Cancelling

    with connected(settings) as client:
        run = _run(client, run_id)
        if run.state is not None and run.state.is_final():
            raise TilewrightError(f"{run_id}: the run has ended already: {run.state.name}.")
        client.set_flow_run_state(run.id, Cancelling(message="Asked for by tilewright cancel."))


def set_paused(settings: Settings, paused: bool) -> None:
    """Begin no more runs, or begin them again; runs that go on are not touched."""
    from prefect.client.schemas.actions import WorkPoolUpdate

    with connected(settings) as client:
        client.update_work_pool(POOL, WorkPoolUpdate(is_paused=paused))


def add_schedule(
    settings: Settings,
    name: str,
    recipe: AnyRecipe,
    parameters: dict[str, Any],
    schedule: Any,
    watch: bool,
) -> None:
    """Make a schedule: a deployment of its own, so that its page shows what it does.

    Parameters
    ----------
    settings : Settings
    name : str
    recipe : Recipe or LabelsRecipe
    parameters : dict
        Others of the flow.
    schedule : CronSchedule, IntervalSchedule or RRuleSchedule
    watch : bool
        Do what is new or changed, instead of all.

    Raises
    ------
    RecipeError
        If the name is taken or no name.
    """
    if not SLUG.fullmatch(name):
        raise RecipeError(f"{name!r}: a schedule's name has lower case letters, digits and dashes.")
    with connected(settings) as client:
        from flows.service.deployments import deploy
        from flows.service.runs import segment_archive, watch_archive

        flow = watch_archive if watch else segment_archive
        if any(deployment.name == name for deployment in client.read_deployments()):
            raise RecipeError(f"{name}: there is a schedule or recipe of that name. Use another.")
        deploy(flow, name, recipe, parameters, schedule)


def list_schedules(settings: Settings) -> list[str]:
    """A line for every schedule: name, state, times, what it does."""
    with connected(settings) as client:
        lines = []
        for one in _scheduled(client):
            paths = f"{one.parameters.get('archive', '')} -> {one.parameters.get('out', '')}"
            for schedule in one.schedules:
                state = "on" if schedule.active and not one.paused else "paused"
                lines.append(f"{one.name}  {state}  {_times(schedule.schedule)}  {paths}")
        return lines


def change_schedule(settings: Settings, name: str, active: bool | None) -> None:
    """Pause or resume a schedule, or remove it (None).

    Raises
    ------
    RecipeError
        If there is none of that name.
    """
    with connected(settings) as client:
        known = {one.name: one for one in _scheduled(client)}
        if name not in known:
            raise RecipeError(f"{name}: no such schedule. Schedules: {', '.join(known) or 'none'}.")
        found = known[name]
        if active is None:
            client.delete_deployment(found.id)
        elif active:
            client.resume_deployment(found.id)
        else:
            client.pause_deployment(found.id)


def first(error: Exception) -> str:
    """The beginning of what an error says: Prefect's repeat what they were given."""
    text = str(error)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."


def run_page(settings: Settings, run_id: str) -> str:
    """Where a browser shows a run."""
    return f"{settings.server.api_url.removesuffix('/api')}/runs/flow-run/{run_id}"


def _scheduled(client: SyncPrefectClient) -> list[DeploymentResponse]:
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags

    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    return [one for one in client.read_deployments(deployment_filter=ours) if one.schedules]


def _times(schedule: Any) -> str:
    for kind in ("cron", "rrule"):
        if hasattr(schedule, kind):
            zone = f" {schedule.timezone}" if schedule.timezone else ""
            return f"{getattr(schedule, kind)}{zone}"
    return f"every {schedule.interval}"


def _deployment(client: SyncPrefectClient, name: str) -> UUID:
    from prefect.exceptions import ObjectNotFound

    try:
        return client.read_deployment_by_name(name).id
    except ObjectNotFound:
        raise TilewrightError(
            f"{name}: the service does not offer this yet: its runner has not started. "
            "`tilewright serve` starts it."
        ) from None


def _run(client: SyncPrefectClient, run_id: str) -> FlowRun:
    from prefect.exceptions import ObjectNotFound

    try:
        return client.read_flow_run(UUID(run_id))
    except (ObjectNotFound, ValueError):
        raise RecipeError(
            f"{run_id}: the service knows no such run. Its id is in the address of its page."
        ) from None
