"""The result of a training: a model folder whose card says what was measured."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import yaml
from torch import nn

from pipeline.files import write_atomically
from pipeline.nets.card import ModelCard
from pipeline.nets.device import device, device_name
from pipeline.nets.model_folder import write_model
from pipeline.training.checkpoint import load_best
from pipeline.training.dataset import Dataset
from pipeline.training.decoding import run_content
from pipeline.training.folder import TrainingFolder
from pipeline.training.frames import Frame
from pipeline.training.loop import Training
from pipeline.training.recipe import TrainingRecipe
from pipeline.training.state import TrainingState, begin
from pipeline.training.validation import Scores, judge, validation_loss

#: Of the objects' sizes that a card names.
LESS_THAN_PERCENT = (5, 95)


@dataclass(frozen=True)
class Result:
    """A trained model.

    Parameters
    ----------
    card : ModelCard
        As it was written.
    scores : Scores
        Of all images of validation.
    step : int
        Whose weights were best.
    """

    card: ModelCard
    scores: Scores
    step: int


def publish(training: Training, state: TrainingState, folder: TrainingFolder) -> Result:
    """Score the best weights on all images of validation, and write them as a model.

    Raises
    ------
    TilewrightError
        If the weights cannot be read, or the model cannot be written.
    """
    recipe, dataset = training.recipe, training.dataset
    network = begin(recipe, device()).network
    step = int(load_best(training.checkpoints, network)["step"])
    network.eval()
    training.trainee.prepare(network)
    scores = _all_scores(network, training)
    card = _card(recipe, dataset, scores, state, step)
    written = write_model(folder.model, copy.deepcopy(network).cpu(), card)
    write_run_recipe(recipe, folder)
    return Result(written, scores, step)


def _all_scores(network: nn.Module, training: Training) -> Scores:
    frames = training.dataset.validation
    loss = validation_loss(network, training.trainee, frames, training.recipe, device())
    found = judge(network, training.recipe, frames, training.scratch / "candidate")
    return Scores({**found.numbers, "loss": loss}, found.chosen, found.images)


def _card(
    recipe: TrainingRecipe, dataset: Dataset, scores: Scores, state: TrainingState, step: int
) -> ModelCard:
    words = [recipe.training_data] if recipe.training_data else []
    words.append(
        f"{len(dataset.train_names)} images learned from, {len(dataset.validation_names)} others "
        f"scored; {dataset.objects} objects in all; digest {dataset.digest}"
    )
    threads = recipe.compute.threads
    where = device_name()
    if where == "CPU":
        where = f"CPU, {threads} thread{'s' * (threads > 1)}"
    return recipe.card(
        training_data="; ".join(words),
        scores={
            **{f"validation_{name}": round(x, 4) for name, x in scores.numbers.items()},
            "validation_images": len(dataset.validation_names),
            "steps": step,
        },
        device=f"{where}, {recipe.compute.precision}",
        seconds=round(state.seconds, 1),
        object_px=diameters(dataset.train, recipe.ndim),
    )


def diameters(frames: Iterable[Frame], ndim: int) -> tuple[float, float] | None:
    """Diameters in px that 5 and 95 % of the objects stay below: of discs, or balls, as large.

    None where there are no objects.
    """
    sizes = [
        np.bincount(frame.objects.ravel(), minlength=1)[1:]
        for frame in frames
        if frame.objects is not None
    ]
    every = np.concatenate([np.zeros(0, np.int64), *sizes])
    if not len(every):
        return None
    volume = {2: np.pi / 4, 3: np.pi / 6}[ndim]
    low, high = np.percentile((every / volume) ** (1 / ndim), LESS_THAN_PERCENT).round(1).tolist()
    return low, high


def write_run_recipe(recipe: TrainingRecipe, folder: TrainingFolder) -> None:
    """Write a recipe of runs that uses the model, by its absolute path."""
    content = {"label": recipe.name or "labels", **run_content(recipe, folder.model)}
    if recipe.description:
        content = {"description": recipe.description, **content}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    write_atomically(folder.recipe, text.encode())
