"""The flow that trains models; it needs torch only when it runs.

Import this module when PREFECT_API_URL is set.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from flows.service.doors import allowed_archive, allowed_output, on_disk
from flows.service.links import link_page
from flows.service.pages import REPORT
from flows.service.runs import begin, check_reserve
from flows.service.settings import load_settings
from flows.service.turns import gpu_turn
from pipeline.storage import path_of
from pipeline.training.recipe import parse_training_recipe


def run_name() -> str:
    """What a training is called in lists: the recipe and the data."""
    given = flow_run.parameters
    recipe = given.get("recipe") or {}
    return f"{recipe.get('name') or 'model'}: {Path(str(given.get('data'))).name}"


@flow(name="train-model", flow_run_name=run_name, persist_result=False)
def train_model(data: str, out: str, recipe: dict[str, Any], fresh: bool = False) -> Any:
    """Train a model on images with labels, on the GPUs or the CPU of the runner's machine.

    A training of the same recipe, data and folder continues from its last checkpoint.

    Args:
        data: A folder with images and labels; an absolute path of the service.
        out: Where the model, its report and checkpoints go.
        recipe: What is learned.
        fresh: Set aside what the folder holds, and start over.
    """
    from flows.train import TrainRequest, opened_training
    from flows.train_flow import perform_training

    begin()
    settings = load_settings()
    request = TrainRequest(
        parse_training_recipe(recipe, "recipe"),
        on_disk(allowed_archive(path_of(data), settings), "data"),
        on_disk(allowed_output(path_of(out), settings), "output folder"),
        fresh=fresh,
    )
    check_reserve(request.out, settings)
    with gpu_turn(True, settings), opened_training(request, threading.Event()) as run:
        link_page(request.out, settings, REPORT, "Report, once the training has ended")
        return None if run.is_done() else perform_training(run)
