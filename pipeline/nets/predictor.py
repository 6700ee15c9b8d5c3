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
from torch import Tensor

from pipeline.box import Box
from pipeline.nets.card import ModelCard
from pipeline.nets.context import FrameWindow, GlobalContext
from pipeline.nets.device import autocast, device
from pipeline.nets.model_folder import load_module, read_card
from pipeline.nets.probe import check_reach
from pipeline.nets.reach import Reach
from pipeline.nets.reference import ModelReference
from pipeline.nets.settings import Precision
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
        with torch.inference_mode(), autocast(precision):
            out = self.network.forward(
                variant.apply(_batch(pixels)), variant.apply_window(window), found
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
        with torch.inference_mode():
            return self.network.collect(
                variant.apply(_batch(pixels)), variant.apply_window(window), found
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
