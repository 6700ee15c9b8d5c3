"""What running a model takes and sees, for the plan: known before any tile runs."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.nets.card import FOREIGN, ModelCard
from pipeline.nets.measured import kept
from pipeline.nets.model_folder import check_weights, load_module, read_card
from pipeline.nets.places import missing_extra
from pipeline.nets.reference import ModelReference

#: Side of the window that a pass is followed on, before it is rounded to the stride.
MEASURED_PX = {2: 512, 3: 64}
#: What torch and a model that was checked take beside a worker without them, measured.
LIBRARY_BYTES = 750 * 2**20
#: Arithmetic of a core, for the plan's rough prediction.
FLOPS_PER_SECOND = 3e10
#: Bytes and operations a px of programs that cannot be followed: those of a U-Net of 64 channels.
UNKNOWN_COST = 1500.0, 1e6


@dataclass(frozen=True, slots=True)
class Facts:
    """What a model takes and sees.

    Parameters
    ----------
    stride_px, halo_px : tuple of int
        See `pipeline.nets.reach`.
    statistics : int
        Of a whole frame, each a pass of its own.
    bytes_per_px, flops_per_px : float
        See `pipeline.nets.cost`.
    weight_bytes : int
    unpools : bool
        See `pipeline.nets.reach`.
    """

    stride_px: tuple[int, ...]
    halo_px: tuple[int, ...]
    statistics: int
    bytes_per_px: float
    flops_per_px: float
    weight_bytes: int
    unpools: bool = False

    def window_px(self, block: Sequence[int], frame: Sequence[int] | None = None) -> int:
        """Pixels of the window of a block, within the frame if it is known."""
        sides = [b + 2 * h for b, h in zip(block, self.halo_px, strict=True)]
        if frame is not None:
            sides = [
                min(side, -(-n // s) * s)
                for side, n, s in zip(sides, frame, self.stride_px, strict=True)
            ]
        return math.prod(sides)

    def window_bytes(self, block: Sequence[int], frame: Sequence[int] | None = None) -> int:
        """Memory of a pass over the window of a block, the weights left out.

        Twice the tensors: convolutions want room of their own, and freed memory is kept in parts
        (1.7 to 2 were measured on the CPU for a small U-Net).
        """
        return int(2 * self.bytes_per_px * self.window_px(block, frame))

    def overhead(self, block: Sequence[int]) -> float:
        """Pixels of a window for every pixel of its block."""
        return math.prod((b + 2 * h) / b for b, h in zip(block, self.halo_px, strict=True))


@functools.lru_cache(maxsize=16)
def facts_of(reference: ModelReference) -> Facts:
    """Measure a model at its zoom.

    Raises
    ------
    ModelError
        If it cannot be opened, or cannot be run in windows.
    """
    return kept(Facts, _layers(reference), functools.partial(_measured, reference))


def _layers(reference: ModelReference) -> str:
    """What models share of which the same is measured.

    Of a network of ours all follows from its layers, so that weights need not be looked at: a
    training tries a new model at each scoring. Only that they are the card's is seen to, for
    nothing else looks before tiles run.
    """
    card = reference.card
    if card.architecture in FOREIGN:
        return f"{reference.digest} {reference.zoom!r}"
    check_weights(Path(reference.path))
    layers: list[Any] = [card.architecture, card.arguments, card.ndim, len(card.channels)]
    layers += [card.network_classes, card.output_channels, card.bytes_per_px, reference.zoom]
    return json.dumps(layers, sort_keys=True)


def _measured(reference: ModelReference) -> Facts:
    path = Path(reference.path)
    card = read_card(path)
    try:
        from pipeline.nets.cost import measure_cost  # noqa: PLC0415
        from pipeline.nets.opening import context_of, reach_of, skeleton  # noqa: PLC0415
        from pipeline.nets.zoomed import zoomed  # noqa: PLC0415
    except ImportError as error:
        raise missing_extra(error, f"{path}: a model") from error
    zoom = reference.zoom
    module = zoomed(load_module(path), card, zoom)
    network = context_of(module, card)
    reach = reach_of(network, card, zoom)
    bytes_per_px, flops_per_px = (_at_zoom(card, zoom, cost) for cost in UNKNOWN_COST)
    if card.architecture not in FOREIGN:
        shape = tuple(-(-MEASURED_PX[card.ndim] // s) * s for s in reach.stride)
        net = zoomed(skeleton(card), card, zoom)
        bytes_per_px, flops_per_px = measure_cost(net, len(card.channels), shape)
    if card.bytes_per_px is not None:
        bytes_per_px = _at_zoom(card, zoom, card.bytes_per_px)
    return Facts(
        reach.stride,
        reach.halo_px,
        network.count,
        bytes_per_px,
        flops_per_px,
        sum(p.numel() * p.element_size() for p in module.parameters()),
        reach.unpools,
    )


def _at_zoom(card: ModelCard, zoom: float, cost_per_px: float) -> float:
    """The cost of a px of the image, by that of one that the network sees."""
    if zoom == 1:
        return cost_per_px
    # What is resampled lies beside it: 4 bytes, and about as many operations.
    return cost_per_px * zoom**card.ndim + 4 * (len(card.channels) + card.output_channels)


@dataclass(frozen=True, slots=True)
class DetectorFacts:
    """What a detector takes.

    Parameters
    ----------
    bytes_per_px, flops_per_px : float
        Of a window, for features and proposals; what else is done depends on the objects.
    head_bytes : int
        Of the objects that go through the mask head together.
    weight_bytes : int
    """

    bytes_per_px: float
    flops_per_px: float
    head_bytes: int
    weight_bytes: int

    def memory_bytes(self, window_px: int) -> int:
        """Memory of a worker that looks at such a window; tensors count twice, as for networks."""
        features = 2 * self.bytes_per_px * window_px
        return LIBRARY_BYTES + self.weight_bytes + int(max(features, self.head_bytes))


@functools.lru_cache(maxsize=16)
def detector_facts_of(reference: ModelReference) -> DetectorFacts:
    """Measure a detector.

    Raises
    ------
    ModelError
        If its card describes no network, or torch or torchvision is not installed.
    """
    return kept(DetectorFacts, _layers(reference), functools.partial(_measured_detector, reference))


def _measured_detector(reference: ModelReference) -> DetectorFacts:
    card = read_card(Path(reference.path))
    try:
        from pipeline.nets.cost import measure_cost  # noqa: PLC0415
        from pipeline.nets.detector import ROIS  # noqa: PLC0415
        from pipeline.nets.opening import skeleton  # noqa: PLC0415
    except ImportError as error:
        raise missing_extra(error, f"{reference.path}: a model") from error
    net: Any = skeleton(card).net
    shape = (MEASURED_PX[2],) * 2

    def features(window: Any) -> Any:
        return net.rpn.head(list(net.backbone(window).values()))

    cost = measure_cost(features, len(card.channels), shape)
    # Layers of the mask head see an object as 14 x 14 places, the last two as 28 x 28.
    values = 2 * (14 * 14 + 28 * 28) * net.backbone.out_channels * ROIS
    weights = sum(p.numel() * p.element_size() for p in net.parameters())
    return DetectorFacts(card.bytes_per_px or cost[0], cost[1], 4 * values, weights)
