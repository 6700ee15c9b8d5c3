"""The loop: the same weights for any threads, any kill and any number of sessions."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import OutputError, TrainingError
from pipeline.training.checkpoint import BEST, LAST, load_state, save_state
from pipeline.training.loop import train
from pipeline.training.recipe import TrainingRecipe
from pipeline.training.state import TrainingState, begin, learning_rate, tensors_of

from .small_data import recipe, training, write_pairs

VARIED = {"zoom": [0.7, 1.4], "elastic_px": 1, "noise": 0.1, "blur_px": 1}
#: A training in a process of its own: it says each step.
PROGRAM = """
import json, sys
from pathlib import Path
from tests.training.small_data import recipe, training
from pipeline.training.loop import train
of = recipe(**json.loads(sys.argv[3]))
tell = lambda state, row: print("step", state.step, flush=True)
train(training(Path(sys.argv[1]), Path(sys.argv[2]), of, tell=tell, checkpoint_s=0.0))
"""
LONGER = {
    "augmentation": {"zoom": [0.7, 1.4], "noise": 0.1},
    "steps": 30,
    "validation": {"fraction": 0.4, "every_steps": 10},
}


def weights(out: Path, name: str = LAST) -> str:
    """Digest of the tensors of a checkpoint: times differ, and lie beside them."""
    from safetensors import safe_open

    state = sha256()
    with safe_open(out / "checkpoints" / name, framework="pt") as file:
        for key in sorted(file.keys()):
            state.update(key.encode() + file.get_tensor(key).numpy().tobytes())
    return state.hexdigest()


def rows(state: TrainingState) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in state.history]


def run(data: Path, out: Path, of: TrainingRecipe, **more: Any) -> TrainingState:
    return train(training(data, out, of, **more))


def stopping_at(step: int) -> Callable[[], bool]:
    """What a training asks after each step; it ends at this one."""
    asked = iter(range(1, 10_000))
    return lambda: next(asked) >= step


def test_the_same_seed_gives_the_same_weights(data: Path, tmp_path: Path) -> None:
    of = recipe(augmentation=VARIED)
    first, second = (run(data, tmp_path / name, of) for name in "ab")
    assert first.step == 8
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert weights(tmp_path / "a", BEST) == weights(tmp_path / "b", BEST)
    assert rows(first) == rows(second)
    run(data, tmp_path / "c", recipe(augmentation=VARIED, seed=1), stopped=stopping_at(1))
    run(data, tmp_path / "d", of, stopped=stopping_at(1))
    assert weights(tmp_path / "c") != weights(tmp_path / "d")


def test_threads_that_make_patches_change_nothing(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "a", recipe(augmentation=VARIED))
    of = recipe(augmentation=VARIED, compute={"threads": 1, "producers": 3})
    run(data, tmp_path / "b", of)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_stopped_and_continued_equals_uninterrupted(
    data: Path, tmp_path: Path, average: float
) -> None:
    """Stopped after each of the first steps, rows of the history and scorings among them."""
    of = recipe(
        augmentation=VARIED,
        optimiser={"average": average, "warmup_steps": 2},
        validation={"fraction": 0.4, "every_steps": 4},
    )
    whole = run(data, tmp_path / "a", of)
    for step in range(1, 6):
        part = run(data, tmp_path / "b", of, stopped=stopping_at(1))
        assert part.step == step
    last = run(data, tmp_path / "b", of)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert rows(last) == rows(whole)
    assert last.best == whole.best


@pytest.mark.crash
def test_killed_and_continued_equals_uninterrupted(tmp_path: Path) -> None:
    """The killed one is a process of its own; this one goes on, and does the whole beside it."""
    data = write_pairs(tmp_path / "data")
    command = [sys.executable, "-c", PROGRAM, str(data), str(tmp_path / "b"), json.dumps(LONGER)]
    root = Path(__file__).parents[2]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)
    assert killed.stdout is not None
    for line in killed.stdout:
        if line == "step 13\n":
            time.sleep(0.05)
            killed.send_signal(signal.SIGKILL)
            break
    assert killed.wait() == -signal.SIGKILL
    killed.stdout.close()
    of, told = recipe(**LONGER), list[int]()
    state = run(data, tmp_path / "b", of, tell=lambda state, row: told.append(state.step))
    assert 13 <= told[0] <= 25
    assert state.step == run(data, tmp_path / "a", of).step == of.steps
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert weights(tmp_path / "a", BEST) == weights(tmp_path / "b", BEST)


def test_the_loss_falls_and_is_the_sum_of_its_parts(data: Path, tmp_path: Path) -> None:
    of = recipe(steps=40, validation={"fraction": 0.4, "every_steps": 40})
    history = run(data, tmp_path, of).history
    assert history[-1]["loss"] < 0.6 * history[0]["loss"]
    for row in history:
        parts = row["border cross_entropy"] + row["distance l1"]
        assert row["loss"] == pytest.approx(parts, rel=1e-5)
    assert {"validation_loss", "validation_ap50", "validation_iou"} < history[-1].keys()


def test_it_ends_early_when_nothing_gets_better(data: Path, tmp_path: Path) -> None:
    optimiser = {"learning_rate": 1e-9, "average": 0.0, "warmup_steps": 0}
    validation = {"fraction": 0.4, "every_steps": 1, "patience": 2}
    of = recipe(optimiser=optimiser, validation=validation)
    state = run(data, tmp_path, of)
    assert state.step == 3
    assert state.best_step == 1
    assert run(data, tmp_path, of).step == 3  # and does not go on


def test_a_loss_that_is_no_number_is_an_error(data: Path, tmp_path: Path) -> None:
    of = recipe(optimiser={"learning_rate": 1.0, "warmup_steps": 0, "clip_norm": None}, steps=4)
    one = training(data, tmp_path, of)

    def spoiled(*given: Any) -> dict[str, torch.Tensor]:
        return {"border": torch.tensor(float("nan"), requires_grad=True)}

    one.trainee.losses = spoiled  # type: ignore[method-assign]
    with pytest.raises(TrainingError, match=r"the loss is nan at step 1\. Use a smaller"):
        train(one)


def test_a_damaged_checkpoint_is_an_error(data: Path, tmp_path: Path) -> None:
    of = recipe()
    state = begin(of, torch.device("cpu"))
    save_state(tmp_path, state)
    path = tmp_path / LAST
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(OutputError, match="cannot be continued"):
        load_state(tmp_path, state)
    other = recipe(arguments={"depth": 1, "base_channels": 8})
    save_state(tmp_path, begin(other, torch.device("cpu")))
    with pytest.raises(OutputError, match="Use --fresh to start over"):
        load_state(tmp_path, begin(of, torch.device("cpu")))


def test_a_checkpoint_holds_all_of_a_state(data: Path, tmp_path: Path) -> None:
    of = recipe()
    state = run(data, tmp_path, of, stopped=stopping_at(3))
    again = begin(of, torch.device("cpu"))
    assert load_state(tmp_path / "checkpoints", again)
    before, after = tensors_of(state), tensors_of(again)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert (again.step, again.sums, again.history) == (state.step, state.sums, state.history)
    assert not load_state(tmp_path / "nowhere", again)


def test_the_step_rises_then_falls_to_nothing() -> None:
    section = recipe(optimiser={"learning_rate": 0.5, "warmup_steps": 4}).optimiser
    rates = [learning_rate(section, step, 100) for step in range(100)]
    assert rates[:4] == [0.125, 0.25, 0.375, 0.5]
    assert rates[4] == 0.5
    assert all(a > b for a, b in pairwise(rates[4:]))
    assert rates[-1] < 0.001
