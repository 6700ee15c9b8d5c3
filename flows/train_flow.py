"""The Prefect flow of a training: read, train, publish.

Import this module when PREFECT_API_URL is set: Prefect reads it then.
"""

from __future__ import annotations

from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Cancelled

from flows.train import TrainRun


@task(name="train", cache_policy=NO_CACHE)
def train_steps(run: TrainRun) -> bool:
    """All steps, from the last checkpoint on."""
    return run.train()


@task(name="publish", cache_policy=NO_CACHE)
def publish_model(run: TrainRun) -> None:
    """Score the best weights, and write model, recipe and report."""
    run.publish()


@flow(name="train-model", validate_parameters=False)
def train_model(run: TrainRun) -> Any:
    """Train a model as a recipe says, on data that has been read and checked."""
    return perform_training(run)


def perform_training(run: TrainRun) -> Any:
    """Do all stages, in a flow; returns the state of one that was interrupted."""
    with run.progress:
        if not train_steps(run):
            return Cancelled(message="Interrupted; the same command continues.")
        publish_model(run)
    return None
