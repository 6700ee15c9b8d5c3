"""The Prefect flow: one run is one request, its tasks are stages and large images, never tiles.

Import this module when PREFECT_API_URL is set: Prefect reads it then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, wait
from prefect.task_runners import ThreadPoolTaskRunner

from flows.dataset import DatasetRun
from pipeline.admission import Admitted, Refused
from pipeline.methods.base import State
from pipeline.plan import ImagePlan

#: Large images at work together: while one joins in the flow, the cluster has the other's tiles.
LARGE_AT_ONCE = 2
#: Prefect tasks for large images; each costs 40 ms and 20 KB of the server's database.
LARGE_TASKS = 500


@task(name="admit", cache_policy=NO_CACHE)
def admit_images(run: DatasetRun) -> list[Admitted | Refused]:
    """Open every file of the archive."""
    return run.admit()


@task(name="plan", cache_policy=NO_CACHE)
def plan_images(run: DatasetRun, admitted: Sequence[Admitted | Refused]) -> list[ImagePlan]:
    """Lay out tiles and bytes, and refuse what cannot fit."""
    return run.plan(admitted)


@task(name="survey dataset", cache_policy=NO_CACHE)
def survey_images(run: DatasetRun, plans: Sequence[ImagePlan], together: str) -> State:
    """Look at all images together, where the method does."""
    return run.survey(plans, together)


@task(name="segment small images", cache_policy=NO_CACHE)
def segment_small_images(run: DatasetRun, plans: Sequence[ImagePlan], state: State) -> None:
    """Images that one worker does from beginning to end."""
    run.segment_small(plans, state)


@task(name="segment", task_run_name="segment {names}", cache_policy=NO_CACHE)
def segment_large_images(
    run: DatasetRun, plans: Sequence[ImagePlan], state: State, names: str
) -> None:
    """Images that are spread over the cluster."""
    for plan in plans:
        run.segment_large(plan, state)


RUNNER: Any = ThreadPoolTaskRunner(max_workers=LARGE_AT_ONCE)


@flow(
    name="segment-dataset",
    validate_parameters=False,
    task_runner=RUNNER,
)
def segment_dataset(run: DatasetRun) -> None:
    """Segment an archive as a recipe says; images that fail are quarantined, the others go on."""
    perform_stages(run)


def perform_stages(run: DatasetRun) -> None:
    """Do all stages of a run, in a flow whose task runner is `RUNNER`."""
    with run.progress:
        admitted = admit_images(run)
        plans = plan_images(run, admitted)
        together = run.dataset_identity(admitted)
        state = survey_images(run, plans, together) if together else {}
        plans = (
            [plan for plan in plans if not run.records.is_quarantined(plan)] if together else plans
        )
        futures: list[PrefectFuture[None]] = []
        for group in _groups([plan for plan in plans if not plan.small]):
            names = ", ".join(plan.job.name for plan in group[:3])
            futures.append(segment_large_images.submit(run, group, state, names))
        small = [plan for plan in plans if plan.small]
        if small:
            segment_small_images(run, small, state)
        wait(futures)
        for future in futures:
            future.result()
        run.finish()


def _groups(plans: Sequence[ImagePlan]) -> list[Sequence[ImagePlan]]:
    size = max(1, -(-len(plans) // LARGE_TASKS))
    return [plans[k : k + size] for k in range(0, len(plans), size)]
