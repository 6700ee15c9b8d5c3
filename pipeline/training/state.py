"""All that a training is at one moment: weights, optimiser, averages, history. Nothing else.

Random numbers follow from the seed and the step alone, so that no generator's state is kept.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.nets.architectures import build
from pipeline.training.recipe import TrainingRecipe
from pipeline.training.sections import OptimiserSection

Row = dict[str, float]


@dataclass
class TrainingState:
    """A training after `step` steps.

    Parameters
    ----------
    network : nn.Module
    optimiser : torch.optim.AdamW
    scaler : torch.amp.GradScaler
        Keeps gradients of fp16 from vanishing; does nothing else.
    average : dict of Tensor, or None
        Moving average of the network's state.
    step : int
    sums : dict of (float, int)
        Of losses since the last row of the history, by part, and of how many steps.
    history : list of dict
        A row an interval: step, loss and its parts, scores where there are.
    best : float or None
        The best score.
    best_step : int
        Whose weights are kept.
    stale : int
        Scorings since then.
    seconds : float
        Spent in steps and scorings, of all sessions.
    """

    network: nn.Module
    optimiser: torch.optim.AdamW
    scaler: torch.amp.GradScaler
    average: dict[str, Tensor] | None
    step: int = 0
    sums: dict[str, tuple[float, int]] = field(default_factory=dict)
    history: list[Row] = field(default_factory=list)
    best: float | None = None
    best_step: int = 0
    stale: int = 0
    seconds: float = 0.0

    def judged(self) -> nn.Module:
        """A copy of the network with the weights that are kept, in eval mode."""
        network = copy.deepcopy(self.network)
        if self.average is not None:
            network.load_state_dict(self.average)
        return network.eval()

    def follow(self, decay: float) -> None:
        """Let the average follow the weights, faster in the first steps."""
        if self.average is None:
            return
        part = 1 - min(decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                if value.is_floating_point():
                    self.average[name].lerp_(value.detach(), part)
                else:
                    self.average[name].copy_(value)


def begin(recipe: TrainingRecipe, device: torch.device) -> TrainingState:
    """A training before its first step; the recipe's seed draws the weights."""
    torch.manual_seed(recipe.seed)
    card = recipe.card()
    network = build(
        recipe.architecture, len(card.channels), card.network_classes, recipe.network_arguments
    )
    # Channels side by side in memory: a step of a U-Net takes a quarter less time on a CPU.
    layout = torch.channels_last if recipe.ndim == 2 else torch.channels_last_3d
    network = network.to(device).to(memory_format=layout).train()
    section = recipe.optimiser
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=section.learning_rate, weight_decay=section.weight_decay
    )
    halves = recipe.compute.precision == "fp16" and device.type == "cuda"
    average = None
    if section.average > 0:
        average = {name: x.detach().clone() for name, x in network.state_dict().items()}
    scaler = torch.amp.GradScaler(device.type, enabled=halves)
    return TrainingState(network, optimiser, scaler, average)


def learning_rate(section: OptimiserSection, step: int, steps: int) -> float:
    """Of a step, counted from 0: a straight rise, then half a cosine."""
    if step < section.warmup_steps:
        return section.learning_rate * (step + 1) / section.warmup_steps
    part = (step - section.warmup_steps) / max(1, steps - section.warmup_steps)
    return section.learning_rate * 0.5 * (1 + math.cos(math.pi * part))


def seed_step(seed: int, step: int) -> None:
    """Set torch's generator for a step: what layers and samplers draw follows from its number."""
    torch.manual_seed((seed * 1_000_003 + step + 1) % 2**63)


def tensors_of(state: TrainingState) -> dict[str, Tensor]:
    """All tensors of a state by name."""
    found = {f"network.{k}": x for k, x in state.network.state_dict().items()}
    if state.average is not None:
        found |= {f"average.{k}": x for k, x in state.average.items()}
    for number, kept in state.optimiser.state_dict()["state"].items():
        found |= {f"optimiser.{number}.{k}": torch.as_tensor(x) for k, x in kept.items()}
    return found


def restore(state: TrainingState, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Put tensors and facts of a checkpoint into a new state.

    Raises
    ------
    KeyError, RuntimeError
        If they are of another network.
    """
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "optimiser": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    state.network.load_state_dict(parts["network"])
    if state.average is not None:
        for name, value in state.average.items():
            value.copy_(parts["average"][name])
    kept: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimiser"].items():
        number, _, key = name.partition(".")
        kept.setdefault(int(number), {})[key] = tensor
    groups = state.optimiser.state_dict()["param_groups"]
    state.optimiser.load_state_dict({"state": kept, "param_groups": groups})
    state.scaler.load_state_dict(facts.pop("scaler"))
    facts["sums"] = {name: tuple(pair) for name, pair in facts["sums"].items()}
    for key, value in facts.items():
        setattr(state, key, value)
