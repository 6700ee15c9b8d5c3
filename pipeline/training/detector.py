"""Detectors: whole objects as boxes and masks; torchvision's own losses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.training.frames import Floats
from pipeline.training.object_boxes import object_boxes
from pipeline.training.patches import Outside, Patch
from pipeline.training.recipe import TrainingRecipe

#: Objects of which a patch shows fewer pixels are left out.
LEAST_PX = 12
#: Small patches hold few objects: fewer samples are as good and several times faster.
SAMPLED_BOXES, PROPOSALS = 128, 500


@dataclass(frozen=True)
class DetectorBatch:
    """N patches.

    Parameters
    ----------
    images : list of Tensor of shape (C, Y, X), float32
    targets : list of dict
        "boxes" (n, 4) as (x, y, x, y), "labels" (n,), "masks" (n, Y, X).
    """

    images: list[Tensor]
    targets: list[dict[str, Tensor]]


class DetectorTrainee:
    """Trains `mask_rcnn`: the head `objects`.

    Its classes are those of the image of classes, where the recipe has one: an object is what most
    of its pixels are, and class k of the image is object class k. Else all objects are of one kind.

    Parameters
    ----------
    recipe : TrainingRecipe
    """

    margin_px: int = 0
    outside: Outside = "empty"

    def __init__(self, recipe: TrainingRecipe) -> None:
        self._kinds = len(recipe.card().object_names)

    def maps(self, objects: NDArray[np.int32]) -> dict[str, Floats]:
        """None are needed."""
        return {}

    def prepare(self, network: nn.Module) -> None:
        net: Any = network.net
        net.roi_heads.fg_bg_sampler.batch_size_per_image = SAMPLED_BOXES
        net.rpn._pre_nms_top_n["training"] = PROPOSALS
        net.rpn._post_nms_top_n["training"] = PROPOSALS

    def batch(self, patches: Sequence[Patch], step: int | None = None) -> DetectorBatch:
        images = [torch.from_numpy(one.image) for one in patches]
        return DetectorBatch(images, [self._target(one) for one in patches])

    def losses(
        self, network: nn.Module, batch: DetectorBatch, device: torch.device
    ) -> dict[str, Tensor]:
        images = [image.to(device) for image in batch.images]
        targets = [{key: x.to(device) for key, x in one.items()} for one in batch.targets]
        with _telling_losses(network):
            parts: dict[str, Tensor] = network(images, targets)
        return {f"objects {name.removeprefix('loss_')}": x for name, x in parts.items()}

    def _target(self, patch: Patch) -> dict[str, Tensor]:
        assert patch.objects is not None
        boxes, masks, kinds = [], [], []
        for number, box in object_boxes(patch.objects):
            own = patch.objects[box] == number
            if np.count_nonzero(own) < LEAST_PX:
                continue
            mask = np.zeros(patch.objects.shape, np.uint8)
            mask[box] = own
            (y0, y1), (x0, x1) = ((s.start, s.stop) for s in box)
            boxes.append((x0, y0, x1, y1))
            masks.append(mask)
            kinds.append(self._kind(patch, box, own))
        sides = patch.objects.shape
        return {
            "boxes": torch.tensor(np.array(boxes, np.float32).reshape(-1, 4)),
            "labels": torch.tensor(kinds, dtype=torch.int64),
            "masks": torch.from_numpy(np.array(masks, np.uint8).reshape(-1, *sides)),
        }

    def _kind(self, patch: Patch, box: tuple[slice, ...], own: NDArray[np.bool_]) -> int:
        if patch.classes is None:
            return 1
        inside = patch.classes[box][own]
        counts = np.bincount(inside[inside > 0], minlength=self._kinds + 1)
        return max(1, int(counts.argmax()))


@contextmanager
def _telling_losses(network: nn.Module) -> Iterator[None]:
    """Let a network that is in eval mode tell its losses: its norms stay as they are."""
    if network.training:
        yield
        return
    network.train()
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval()
    try:
        yield
    finally:
        network.eval()
