"""A model on the device of this process, and what it says of windows."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.nets.card import ModelCard
from pipeline.nets.context import GlobalContext
from pipeline.nets.device import Precision, autocast, device
from pipeline.nets.frame_window import FrameWindow
from pipeline.nets.model_folder import load_module, model_digest, read_card
from pipeline.nets.opening import context_of, reach_of
from pipeline.nets.probe import check_reach
from pipeline.nets.reach import Reach
from pipeline.nets.reference import ModelReference
from pipeline.nets.variants import Variant

Array = NDArray[Any]


@dataclass(frozen=True)
class Predictor:
    """One model, ready to run.

    Parameters
    ----------
    card : ModelCard
    network : GlobalContext
        In eval mode, on the device of this process.
    reach : Reach
    """

    card: ModelCard
    network: GlobalContext
    reach: Reach

    def run(
        self,
        pixels: NDArray[np.float32],
        window: FrameWindow,
        variant: Variant,
        found: Sequence[Array],
        precision: Precision,
    ) -> Tensor:
        """Outputs (1, K, \\*S) of a normalised and extended window (C, \\*S), float32."""
        with torch.no_grad(), autocast(precision):
            out = self.network.forward(
                variant.apply(_batch(pixels)), variant.apply_window(window, pixels.shape[1:]), found
            )
        return self._turned_back(out.float(), variant)

    def collect(
        self,
        pixels: NDArray[np.float32],
        window: FrameWindow,
        variant: Variant,
        found: Sequence[Array],
    ) -> Array:
        """Sums of a block for the next statistic of its frame, always in float32."""
        with torch.no_grad():
            return self.network.collect(
                variant.apply(_batch(pixels)), variant.apply_window(window, pixels.shape[1:]), found
            )

    def _turned_back(self, out: Tensor, variant: Variant) -> Tensor:
        back = variant.undo(out)
        flow = self.card.head_slices().get("flow")
        if flow is not None:
            back = back.clone()
            back[:, flow] = variant.undo_vectors(back[:, flow])
        return back


def _batch(pixels: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels))[None].to(device())


@functools.lru_cache(maxsize=4)
def _loaded(reference: ModelReference, kind: str) -> Predictor:
    card = read_card(Path(reference.path))
    module = open_unchanged(reference)
    network = context_of(module, card)
    reach = reach_of(network, card)
    check_reach(network.windowed, len(card.channels), reach, card.name)
    module.to(kind)
    return Predictor(card, network, reach)


def open_unchanged(reference: ModelReference) -> nn.Module:
    """The module of a model, on the CPU.

    Raises
    ------
    ModelError
        If it cannot be opened, or was changed since it was found.
    """
    path = Path(reference.path)
    if model_digest(path) != reference.digest:
        raise ModelError(f"{path}: the model changed since the run was planned. Run again.")
    return load_module(path)


def predictor(reference: ModelReference) -> Predictor:
    """A model, opened once a process and device; the last four stay open.

    Raises
    ------
    ModelError
        If it cannot be opened, was changed, or looks farther than its card says.
    """
    return _loaded(reference, device().type)
