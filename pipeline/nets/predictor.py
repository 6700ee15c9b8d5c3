"""A model on the device of this process, and what it says of windows."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.nets.batch_sizes import BatchSizes
from pipeline.nets.card import FOREIGN, ModelCard
from pipeline.nets.context import GlobalContext
from pipeline.nets.device import Precision, autocast, device
from pipeline.nets.frame_window import FrameWindow
from pipeline.nets.model_folder import load_module, model_digest, read_card
from pipeline.nets.opening import context_of, reach_of
from pipeline.nets.probe import check_reach
from pipeline.nets.reach import Reach
from pipeline.nets.reference import ModelReference
from pipeline.nets.variants import Variant
from pipeline.nets.zoomed import zoomed

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
    layout : torch.memory_format
        Of windows and weights.
    sizes : BatchSizes
        Windows at once, where no number is given.
    """

    card: ModelCard
    network: GlobalContext
    reach: Reach
    layout: torch.memory_format
    sizes: BatchSizes
    _given: dict[int, BatchSizes] = field(default_factory=dict)

    def batch_sizes(self, batch: int | None) -> BatchSizes:
        """Windows at once; what is found for one task, or halved, holds for the next."""
        return self.sizes if batch is None else self._given.setdefault(batch, BatchSizes(batch))

    def run(
        self,
        windows: Tensor,
        place: FrameWindow,
        variant: Variant,
        found: Sequence[Array],
        precision: Precision,
    ) -> Tensor:
        """Outputs (N, K, \\*S) of normalised windows (N, C, \\*S) on the device.

        With statistics, a window comes alone, and lies at `place`.
        """
        with torch.no_grad(), autocast(precision):
            out = self.network.forward(
                self._seen(windows, variant), variant.apply_window(place, windows.shape[2:]), found
            )
        return self._turned_back(out.float(), variant)

    def collect(
        self, windows: Tensor, place: FrameWindow, variant: Variant, found: Sequence[Array]
    ) -> Array:
        """Sums of a block for the next statistic of its frame, always in float32."""
        with torch.no_grad():
            return self.network.collect(
                self._seen(windows, variant), variant.apply_window(place, windows.shape[2:]), found
            )

    def _seen(self, windows: Tensor, variant: Variant) -> Tensor:
        return variant.apply(windows).contiguous(memory_format=self.layout)

    def _turned_back(self, out: Tensor, variant: Variant) -> Tensor:
        back = variant.undo(out)
        flow = self.card.head_slices().get("flow")
        if flow is not None:
            back = back.clone()
            back[:, flow] = variant.undo_vectors(back[:, flow])
        return back


@functools.lru_cache(maxsize=4)
def _loaded(reference: ModelReference, kind: str) -> Predictor:
    card = read_card(Path(reference.path))
    module = zoomed(open_unchanged(reference), card, reference.zoom)
    network = context_of(module, card)
    reach = reach_of(network, card, reference.zoom)
    check_reach(network.windowed, len(card.channels), reach, card.name)
    layout = _layout(card, kind)
    module.to(kind)
    module.to(memory_format=layout)
    # Statistics are of one window.
    return Predictor(card, network, reach, layout, BatchSizes(1 if network.count else None))


def _layout(card: ModelCard, kind: str) -> torch.memory_format:
    """How a device likes pixels in memory, for networks of ours.

    Channels last on one core of a CPU: 1.1 times as fast for the paper's U-Net and PSPNet, 1.3 for
    DeepLab and SegNet, 1.6 for a U-Net of 16 channels. Not measured on GPUs.
    """
    if kind == "cpu" and card.ndim == 2 and card.architecture not in FOREIGN:
        return torch.channels_last
    return torch.contiguous_format


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
    """A model at its zoom, opened once a process and device; the last four stay open.

    Raises
    ------
    ModelError
        If it cannot be opened, was changed, or looks farther than its card says.
    """
    return _loaded(reference, device().type)
