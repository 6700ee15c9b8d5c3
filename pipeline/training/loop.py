"""The loop: steps from a state to the next, checkpoints, scores, and when to end.

On a CPU, a training that was killed and continued gives the weights of one that was not, bit for
bit: what a step does follows from the state, the recipe and the data, and all of the state is in
the checkpoint. The number of torch's threads is the recipe's, for sums depend on it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.errors import TrainingError
from pipeline.nets.device import autocast, device, settle
from pipeline.training.checkpoint import load_state, save_best, save_state
from pipeline.training.dataset import Dataset
from pipeline.training.frames import Frame
from pipeline.training.patches import Patches, produced
from pipeline.training.recipe import TrainingRecipe
from pipeline.training.state import Row, TrainingState, begin, learning_rate, seed_step
from pipeline.training.trainee import Trainee
from pipeline.training.validation import judge, validation_loss

log = logging.getLogger(__name__)

#: Longest time between two checkpoints; each is a few times the size of the weights.
CHECKPOINT_SECONDS = 60.0
#: Rows of the history between two scorings.
ROWS_PER_SCORING = 10


@dataclass(frozen=True)
class Training:
    """What a training is made of, but for its state.

    Parameters
    ----------
    recipe : TrainingRecipe
    trainee : Trainee
    dataset : Dataset
    checkpoints, scratch : Path
        Folders.
    stopped : callable
        Asked after each step: whether to leave a checkpoint and end.
    tell : callable
        Called with the state and each new row of the history.
    gpus : int
        On how many a dense network is trained together; 1 or less is one device.
    checkpoint_s : float
    """

    recipe: TrainingRecipe
    trainee: Trainee
    dataset: Dataset
    checkpoints: Path
    scratch: Path
    stopped: Callable[[], bool] = lambda: False
    tell: Callable[[TrainingState, Row], None] = lambda state, row: None
    gpus: int = 1
    checkpoint_s: float = CHECKPOINT_SECONDS

    @property
    def row_every(self) -> int:
        """Steps between two rows of the history."""
        return max(1, self.recipe.validation.every_steps // ROWS_PER_SCORING)

    def judging_frames(self) -> list[Frame]:
        """Frames of validation that are scored while training: of the first so many images."""
        names = set(self.dataset.validation_names[: self.recipe.validation.images])
        return [frame for frame in self.dataset.validation if frame.image in names]


def settle_for_training(recipe: TrainingRecipe) -> None:
    """Settle torch as for runs, with the recipe's threads."""
    settle()
    torch.set_num_threads(recipe.compute.threads)


def train(training: Training) -> TrainingState:
    """Train to the end, from the last checkpoint if there is one.

    Returns
    -------
    TrainingState
        With fewer steps than the recipe's if it was stopped, or ended early.

    Raises
    ------
    TrainingError
        If the loss is no number any more.
    OutputError
        If the checkpoint cannot be used.
    """
    recipe = training.recipe
    settle_for_training(recipe)
    here = device()
    state = begin(recipe, here)
    if load_state(training.checkpoints, state):
        log.info("%s: goes on at step %d", recipe.name, state.step)
    if has_ended(state, recipe):
        return state
    training.trainee.prepare(state.network)
    trainee = training.trainee
    patches = Patches(training.dataset.train, recipe, trainee.margin_px, trainee.outside)
    steps = range(state.step, recipe.steps)
    with produced(
        lambda step: trainee.batch(patches.batch(step), step), steps, recipe.compute.producers
    ) as batches:
        _go_on(state, batches, training, here)
    return state


def _go_on(
    state: TrainingState, batches: Iterator[Any], training: Training, here: torch.device
) -> None:
    """Do steps to the end, or until it is stopped; the last state is in a checkpoint then."""
    recipe, saved = training.recipe, time.monotonic()
    network = _spread(state.network, training)
    for batch in batches:
        begun = time.monotonic()
        _step(state, network, batch, training, here)
        state.seconds += time.monotonic() - begun
        due = state.step % recipe.validation.every_steps == 0 or state.step == recipe.steps
        if due or state.step % training.row_every == 0:
            _note(state, training, due, here)
        stop = training.stopped() or has_ended(state, recipe)
        if stop or due or time.monotonic() - saved >= training.checkpoint_s:
            save_state(training.checkpoints, state)
            saved = time.monotonic()
        if stop:
            break


def has_ended(state: TrainingState, recipe: TrainingRecipe) -> bool:
    """Whether all steps are done, or no better model was found for as long as the recipe waits."""
    patience = recipe.validation.patience
    return state.step >= recipe.steps or (patience is not None and state.stale >= patience)


def _spread(network: nn.Module, training: Training) -> nn.Module:
    """The network, on several GPUs if there are: each takes a part of the batch."""
    if training.gpus < 2 or device().type == "cpu" or training.recipe.card().is_detector:
        return network
    found: nn.Module = nn.DataParallel(network, list(range(training.gpus)))
    return found


def _step(
    state: TrainingState, network: nn.Module, batch: Any, training: Training, here: torch.device
) -> None:
    recipe, section = training.recipe, training.recipe.optimiser
    for group in state.optimiser.param_groups:
        group["lr"] = learning_rate(section, state.step, recipe.steps)
    seed_step(recipe.seed, state.step)
    with autocast(recipe.compute.precision):
        parts = training.trainee.losses(network, batch, here)
    loss = torch.stack(list(parts.values())).sum()
    value = float(loss.detach())
    if not math.isfinite(value):
        raise TrainingError(
            f"{recipe.name}: the loss is {value} at step {state.step + 1}. Use a smaller "
            f"optimiser.learning_rate than {section.learning_rate:g}, or precision float32; "
            "--fresh starts over."
        )
    state.optimiser.zero_grad()
    state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    if section.clip_norm is not None:
        state.scaler.unscale_(state.optimiser)
        nn.utils.clip_grad_norm_(state.network.parameters(), section.clip_norm)
    state.scaler.step(state.optimiser)
    state.scaler.update()
    state.follow(section.average)
    state.step += 1
    for name, part in {"loss": loss, **parts}.items():
        total, count = state.sums.get(name, (0.0, 0))  # parts may join later
        state.sums[name] = (total + float(part.detach()), count + 1)


def _note(state: TrainingState, training: Training, due: bool, here: torch.device) -> None:
    """Add a row to the history; score the model if that is due."""
    row: Row = {"step": state.step}
    row["learning_rate"] = learning_rate(
        training.recipe.optimiser, state.step - 1, training.recipe.steps
    )
    row |= {name: total / count for name, (total, count) in state.sums.items()}
    state.sums = {}
    if due:
        begun = time.monotonic()
        row |= _score(state, training, here)
        state.seconds += time.monotonic() - begun
    row["seconds"] = round(state.seconds, 3)
    state.history.append(row)
    training.tell(state, row)


def _score(state: TrainingState, training: Training, here: torch.device) -> Row:
    """Score the averaged network, and keep its weights if they are the best so far."""
    recipe, frames = training.recipe, training.judging_frames()
    network = state.judged()
    training.trainee.prepare(network)
    loss = validation_loss(network, training.trainee, frames, recipe, here)
    scores = judge(network, recipe, frames, training.scratch / "candidate")
    found = {"validation_loss": loss}
    found |= {f"validation_{name}": number for name, number in scores.numbers.items()}
    if state.best is None or scores.score > state.best:
        state.best, state.best_step, state.stale = scores.score, state.step, 0
        save_best(training.checkpoints, network, {"step": state.step, "scores": found})
    else:
        state.stale += 1
    return found
