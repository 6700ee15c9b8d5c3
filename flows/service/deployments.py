"""What the service offers to run: a work pool, a deployment a recipe, and what watches over them.

Import this module when PREFECT_API_URL is set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.types.entrypoint import EntrypointType
from prefect.workers.process import ProcessWorker

from flows.service.automations import apply_automations
from flows.service.client import first
from flows.service.forms import recipe_schema
from flows.service.names import ANY, POOL, QUEUES, SCORES, TAG
from flows.service.runs import segment_archive, segment_image, watch_archive
from flows.service.scoring import evaluate_labels
from flows.service.settings import Settings
from flows.service.training import train_model
from flows.service.turns import limit_gpu_runs
from pipeline.errors import TilewrightError
from pipeline.labels_recipe import AnyRecipe, load_any_recipe
from pipeline.recipe_file import shipped_recipes
from pipeline.training.recipe import (
    TrainingRecipe,
    load_training_recipe,
    shipped_training_recipes,
)

#: What is offered for every recipe.
FLOWS: tuple[Flow[..., Any], ...] = (segment_archive, segment_image, watch_archive)


def apply_deployments(settings: Settings) -> list[str]:
    """Make or renew all that the service offers; schedules and runs stay as they are.

    Returns
    -------
    list of str
        Names of the deployments.
    """
    names = []
    with get_client(sync_client=True) as client:
        _make_pool(client)
        for name, recipe in offered_recipes(settings):
            names += [deploy(flow, name, recipe) for flow in FLOWS]
        if find_spec("torch") is not None:
            for name in shipped_training_recipes():
                names.append(deploy(train_model, name, load_training_recipe(name)))
        names.append(deploy(segment_archive, ANY, None))
        names.append(deploy(evaluate_labels, SCORES, None))
        apply_automations(client, settings)
        limit_gpu_runs(client, settings)
    return names


def offered_recipes(settings: Settings) -> Iterator[tuple[str, AnyRecipe]]:
    """Shipped recipes, but for the examples of methods, and those of the configuration's folder."""
    for name in shipped_recipes():
        if "/" not in name:
            yield name, load_any_recipe(name)
    folder = settings.recipes
    for path in sorted(folder.glob("*.yaml")) if folder else ():
        yield path.stem, load_any_recipe(str(path))


def _make_pool(client: SyncPrefectClient) -> None:
    try:
        client.read_work_pool(POOL)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(
            WorkPoolCreate(
                name=POOL,
                type="process",
                description="Runs of tilewright, each in a process of the runner.",
                base_job_template=template,
            )
        )
    known = {queue.name for queue in client.read_work_queues(work_pool_name=POOL)}
    for priority, name in enumerate(QUEUES, 1):
        if name not in known:
            client.create_work_queue(name=name, work_pool_name=POOL, priority=priority)


def deploy(
    flow: Flow[..., Any],
    name: str,
    recipe: AnyRecipe | TrainingRecipe | None,
    parameters: Mapping[str, Any] = MappingProxyType({}),
    schedule: Any = None,
) -> str:
    """Offer a flow with a recipe, whose fields are the form; or with any, as the commands give it.

    Parameters
    ----------
    flow : Flow
    name : str
        Of the deployment.
    recipe : Recipe, LabelsRecipe, TrainingRecipe or None
    parameters : dict
        Values of others of the flow's parameters.
    schedule : CronSchedule, IntervalSchedule or RRuleSchedule, optional

    Returns
    -------
    str
        The flow's name and the deployment's.
    """
    values = {"recipe": recipe.model_dump(mode="json")} if recipe else {}
    deployment = RunnerDeployment.from_flow(
        flow,
        name,
        description=recipe.description if recipe else flow.description,
        tags=[TAG],
        parameters={**values, **parameters},
        schedules=[DeploymentScheduleCreate(schedule=schedule)] if schedule else None,
        work_pool_name=POOL,
        entrypoint_type=EntrypointType.MODULE_PATH,
        enforce_parameter_schema=True,
    )
    if recipe:
        deployment._parameter_openapi_schema = _with_form(
            deployment._parameter_openapi_schema, recipe
        )
    try:
        deployment.apply()
    except Exception as error:  # httpx's and Prefect's have no common base
        raise TilewrightError(f"{name} cannot be offered: {first(error)}") from None
    return f"{flow.name}/{name}"


def _with_form(schema: Any, recipe: AnyRecipe | TrainingRecipe) -> Any:
    """The parameters of the flow, with the recipe's own fields."""
    form = recipe_schema(recipe)
    parts = form.pop("definitions")
    position = schema.properties["recipe"].get("position", 0)
    properties = {**schema.properties, "recipe": {**form, "position": position, "title": "recipe"}}
    return schema.model_copy(
        update={"properties": properties, "definitions": {**schema.definitions, **parts}}
    )
