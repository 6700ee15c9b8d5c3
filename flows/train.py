"""`tilewright train`: brings the folder, the data and the server together around the flow."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch

from flows.run import SERVER_HOME, embedded_server, log_file
from flows.training_progress import TrainingProgress
from pipeline import __version__
from pipeline.errors import ClusterError
from pipeline.files import digest
from pipeline.nets.device import device_name, gpu_allowed
from pipeline.nets.model_folder import read_card
from pipeline.training.dataset import Dataset, load_dataset
from pipeline.training.folder import TrainingFolder
from pipeline.training.frames import Shelf
from pipeline.training.loop import Training, has_ended, train
from pipeline.training.recipe import TrainingRecipe
from pipeline.training.report import write_training_report
from pipeline.training.result import Result, publish
from pipeline.training.state import Row, TrainingState
from pipeline.training.trainee import trainee_of
from workers.gpu import gpu_environment, gpus

log = logging.getLogger(__name__)

#: Of the code that decides weights: another one does not go on with a checkpoint.
REVISION = 2


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """One `tilewright train`.

    Parameters
    ----------
    recipe : TrainingRecipe
    data, out : Path
    device : {"auto", "cpu", "gpu"}
    fresh : bool
        Set aside what the folder holds, and start over.
    """

    recipe: TrainingRecipe
    data: Path
    out: Path
    device: Literal["auto", "cpu", "gpu"] = "auto"
    fresh: bool = False


class TrainRun:
    """A training whose folder is held, as the stages of its flow share it.

    Parameters
    ----------
    request : TrainRequest
    folder : TrainingFolder
    gpus : int
        That it may use.
    stopped : Event
        Set to end it after a step.
    """

    def __init__(
        self, request: TrainRequest, folder: TrainingFolder, gpus: int, stopped: threading.Event
    ) -> None:
        self.request, self.folder = request, folder
        self.gpus, self.stopped = gpus, stopped
        self.progress = TrainingProgress(request.recipe.name, request.recipe.steps)
        self.training: Training | None = None
        self.state: TrainingState | None = None

    def is_done(self) -> bool:
        """Whether the model and its report are there."""
        return self.folder.model.is_dir() and self.folder.report.is_file()

    def read(self) -> Dataset:
        """Read and check all data, and make the folder this request's."""
        recipe = self.request.recipe
        trainee = trainee_of(recipe)
        shelf = Shelf(round(recipe.data.memory_gib * 2**30), self.folder.scratch / "shelf")
        dataset = load_dataset(self.request.data, recipe, trainee.maps, shelf)
        what = digest(recipe.identity().encode())
        identity = digest(f"{what} {dataset.digest} {REVISION}".encode())
        where = device_name()
        facts = {
            "recipe": what,
            "data": dataset.digest,
            "tilewright": __version__,
            "torch": torch.__version__,
            "device": where,
        }
        self.folder.claim(identity, facts)
        self.training = Training(
            recipe,
            trainee,
            dataset,
            self.folder.checkpoints,
            self.folder.scratch,
            self.stopped.is_set,
            self.tell,
            self.gpus,
        )
        return dataset

    def tell(self, state: TrainingState, row: Row) -> None:
        """Show a new row of the history, and keep it."""
        self.folder.write_history(state.history)
        self.progress.advance(state, row)

    def train(self) -> bool:
        """Train; whether it came to its end."""
        assert self.training is not None
        self.state = train(self.training)
        return has_ended(self.state, self.request.recipe)

    def publish(self) -> Result:
        """Write the model, the recipe that uses it, and the report."""
        assert self.training is not None
        assert self.state is not None
        shutil.rmtree(self.folder.model, ignore_errors=True)  # without a report it is half a result
        result = publish(self.training, self.state, self.folder)
        self.folder.write_history(self.state.history)
        recipe = self.request.recipe
        write_training_report(self.folder, recipe, self.training.dataset, self.state, result)
        self.progress.summary(self.state, self.folder, result)
        return result


def run_training(request: TrainRequest) -> str:
    """Train a model to the end.

    Returns
    -------
    str
        What came out, for people.

    Raises
    ------
    TilewrightError
        If the request was refused, or the training had to stop.
    KeyboardInterrupt
        If it was interrupted; a checkpoint was left.
    """
    stopped = threading.Event()
    with opened_training(request, stopped) as run:
        if run.is_done():
            return _words(run.folder, "was trained already; --fresh trains it anew")
        with embedded_server(SERVER_HOME) as server, _stopping(stopped):
            from flows.train_flow import train_model

            server.wait()
            named = train_model.with_options(
                flow_run_name=f"{request.recipe.name}: {request.data.name}"
            )
            state: Any = named(run, return_state=True)
            state.result(raise_on_failure=not stopped.is_set())
        if not run.is_done():
            raise KeyboardInterrupt
        return _words(run.folder, "trained")


@contextmanager
def opened_training(request: TrainRequest, stopped: threading.Event) -> Iterator[TrainRun]:
    """Hold the folder of a training, with its data read and checked.

    Parameters
    ----------
    request : TrainRequest
    stopped : Event
        Set to end the training after a step, with a checkpoint.

    Raises
    ------
    TilewrightError
        If the request is refused.
    """
    count = _gpus(request.device)
    folder = TrainingFolder(request.out)
    with folder.writing(), log_file(folder.hidden / "train.log"), gpu_allowed(count > 0):
        folder.check_free()
        if request.fresh:
            folder.set_aside()
        run = TrainRun(request, folder, count, stopped)
        # Before a server starts: most refusals are of the data.
        run.read()
        yield run


def _gpus(wanted: str) -> int:
    """Number of GPUs to train on; torch sees no others."""
    found = () if wanted == "cpu" else gpus()
    if wanted == "gpu" and not found:
        raise ClusterError(
            "--device gpu: this machine has no GPU that is known (see TILEWRIGHT_GPUS in "
            "docs/gpu.md). Use --device cpu."
        )
    if found:  # before torch looks for any
        os.environ.update(gpu_environment(",".join(found)))
    return len(found)


@contextmanager
def _stopping(stopped: threading.Event) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM end the training after its step; the second one at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        log.warning("the step is finished and a checkpoint is left; once more stops at once")
        stopped.set()

    before = {}
    with suppress(ValueError):  # not the main thread: nobody presses Ctrl-C
        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _words(folder: TrainingFolder, what: str) -> str:
    card = read_card(folder.model)
    scores = ", ".join(
        f"{name.removeprefix('validation_')} {value:.3f}"
        for name, value in card.scores.items()
        if name.startswith("validation_") and name != "validation_images"
    )
    count = round(card.scores.get("validation_images", 0))
    return (
        f"{card.name} {what}: {scores} on {count} images that it has not learned from; "
        f"{card.seconds:,.0f} s on {card.device}.\n"
        f"Model:  {folder.model}\nRecipe: {folder.recipe} (tilewright run {folder.recipe} "
        f"ARCHIVE OUT)\nReport: {folder.report}"
    )
