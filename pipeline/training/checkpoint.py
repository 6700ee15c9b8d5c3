"""Checkpoints: one file of numbers, written whole or not at all. Needs torch and safetensors.

They are safetensors, whose header holds the facts as JSON: nothing in them can run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from pipeline.errors import OutputError
from pipeline.files import write_atomically
from pipeline.training.state import TrainingState, restore, tensors_of

LAST, BEST = "last.safetensors", "best.safetensors"
FACTS = ("step", "sums", "history", "best", "best_step", "stale", "seconds")


def save_state(folder: Path, state: TrainingState) -> None:
    """Write the last checkpoint; the one before it stays until the new one is on the disk."""
    facts = {key: getattr(state, key) for key in FACTS} | {"scaler": state.scaler.state_dict()}
    tensors = {name: x.detach().cpu().contiguous() for name, x in tensors_of(state).items()}
    _write(folder / LAST, tensors, facts)


def load_state(folder: Path, state: TrainingState) -> bool:
    """Continue from the last checkpoint; whether there was one.

    Raises
    ------
    OutputError
        If it is damaged, or of another network.
    """
    path = folder / LAST
    if not path.is_file():
        return False
    try:
        tensors, facts = _read(path)
        restore(state, tensors, facts)
    except (SafetensorError, KeyError, RuntimeError, ValueError, OSError) as error:
        raise OutputError(
            f"{path}: the checkpoint cannot be continued ({error}). Use --fresh to start over."
        ) from error
    return True


def save_best(folder: Path, network: nn.Module, facts: dict[str, Any]) -> None:
    """Write the weights that were best so far."""
    tensors = {name: x.detach().cpu().contiguous() for name, x in network.state_dict().items()}
    _write(folder / BEST, tensors, facts)


def load_best(folder: Path, network: nn.Module) -> dict[str, Any]:
    """Put the best weights into a network; returns what was saved with them."""
    path = folder / BEST
    try:
        tensors, facts = _read(path)
        network.load_state_dict(tensors)
    except (SafetensorError, KeyError, RuntimeError, ValueError, OSError) as error:
        raise OutputError(
            f"{path}: the best weights cannot be read ({error}). Use --fresh to start over."
        ) from error
    return facts


def _write(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    # Tensors may share memory, which safetensors refuses.
    data = save({name: x.clone() for name, x in tensors.items()}, {"facts": json.dumps(facts)})
    write_atomically(path, data, durable=True)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        facts = json.loads((file.metadata() or {})["facts"])
    return tensors, facts
