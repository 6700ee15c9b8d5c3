"""Mask R-CNN as a detector of blocks. Needs torch and torchvision.

Torchvision's layers in the order of its own forward pass, with three differences:

* A proposal belongs to the block that holds the centre of its RPN anchor, and only those of the
  block go on to the heads. Centres lie on the grid of strides, at whole pixels of the frame.
* Proposals that are nearly equal are dropped among those of the block alone (RPN's own threshold).
* Objects are not suppressed here: that is done over all blocks.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import (
    expand_boxes,
    expand_masks,
    maskrcnn_inference,
)
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import batched_nms, clip_boxes_to_image, remove_small_boxes

from pipeline.box import Box
from pipeline.detection.detections import Candidates, Detections, Masks, no_detections, quantised
from pipeline.detection.detector import Detector
from pipeline.errors import ModelError
from pipeline.kernels.crops import resized_bits
from pipeline.nets.architectures.mask_rcnn import TOTAL_STRIDE, MaskRCNN
from pipeline.nets.device import autocast, device, device_name
from pipeline.nets.normalisation import normalise
from pipeline.nets.predictor import open_unchanged
from pipeline.nets.reference import ModelReference

#: Objects that go through a head together: a layer of the mask head takes 0.2 MB for each.
ROIS = 256
#: Smallest side of a proposal and of an object, in px, as torchvision has them.
SMALLEST_PROPOSAL, SMALLEST_OBJECT = 1e-3, 1e-2


@functools.lru_cache(maxsize=2)
def _loaded(reference: ModelReference, kind: str) -> MaskRCNN:
    module = open_unchanged(reference)
    if not isinstance(module, MaskRCNN):
        raise ModelError(f"{reference.path}: it is a {type(module).__name__}, not a MaskRCNN.")
    return module.to(kind)


@dataclass(frozen=True)
class _Seen:
    """What the network says of n objects, on the CPU.

    `boxes` (n, 4) is float64, (x, y, x, y) in the frame; `soft` (n, 1, M, M) are probabilities
    within the boxes.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    anchors: NDArray[np.int64]
    soft: Tensor
    frame: Box


@dataclass(frozen=True)
class MaskRCNNDetector(Detector):
    """Objects that a Mask R-CNN finds.

    Parameters
    ----------
    model : ModelReference
    offset, scale : tuple of float
        A pixel x of a channel becomes (x - offset) / scale, in float32.
    score : float
        Objects with a higher probability of their class are candidates.
    proposal_score : float
        Proposals with at least this objectness go to the heads.
    mask_threshold : float
        A pixel of higher probability is the object's.
    """

    model: ModelReference
    offset: tuple[float, ...]
    scale: tuple[float, ...]
    score: float
    proposal_score: float
    mask_threshold: float

    stride_px: ClassVar[int] = TOTAL_STRIDE

    def look(self, pixels: NDArray[Any], window: Box, block: Box, frame: Box) -> _Seen | None:
        with torch.inference_mode(), autocast("float32"):
            return self._look(pixels, window, block, frame)

    def device_name(self) -> str:
        return device_name()

    def objects(self, seen: _Seen | None) -> Detections:
        if seen is None:
            return no_detections(2)
        masks = pasted(seen.soft, seen.boxes, seen.frame, self.mask_threshold)
        y0x0y1x1 = seen.boxes[:, [1, 0, 3, 2]].float().numpy()
        score, kinds = quantised(seen.scores.numpy()), seen.classes.numpy().astype(np.int32)
        return Detections(Candidates(seen.anchors, y0x0y1x1, score, kinds), masks)

    def _look(self, pixels: NDArray[Any], window: Box, block: Box, frame: Box) -> _Seen | None:
        here = device()
        net = _loaded(self.model, here.type).net
        images = torch.from_numpy(self._normalised(pixels))[None].to(here)
        features = net.backbone(images)
        limit = _extent(window.intersect(frame))
        proposals, anchors = self._proposals(net, images, features, limit, window, block, frame)
        if len(proposals) == 0:
            return None
        size = tuple(images.shape[-2:])
        found = self._objects(net, features, proposals, size, limit)
        boxes, _, classes, _ = found
        if len(boxes) == 0:
            return None
        soft = _soft_masks(net, features, boxes, classes, size).cpu()
        boxes, scores, classes, rows = (column.cpu() for column in found)
        origin = torch.tensor([*window.start[::-1]] * 2, dtype=torch.float64)
        return _Seen(boxes.double() + origin, scores, classes, anchors[rows.numpy()], soft, frame)

    def _normalised(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        return normalise(
            pixels, (np.array(self.offset, np.float32), np.array(self.scale, np.float32))
        )

    def _proposals(
        self,
        net: Any,
        images: Tensor,
        features: dict[str, Tensor],
        limit: tuple[int, int],
        window: Box,
        block: Box,
        frame: Box,
    ) -> tuple[Tensor, NDArray[np.int64]]:
        """Proposals of a block's own anchors, (n, 4) in the window, and the anchors' centres."""
        objectness, deltas = net.rpn.head(list(features.values()))
        listed = ImageList(images, [tuple(images.shape[-2:])])
        boxes = net.rpn.anchor_generator(listed, list(features.values()))
        counts = torch.tensor([one[0].numel() for one in objectness])
        level = torch.repeat_interleave(torch.arange(len(counts)), counts).to(images.device)
        objectness, deltas = concat_box_prediction_layers(objectness, deltas)
        score = torch.sigmoid(objectness.flatten())
        centre = ((boxes[0][:, :2] + boxes[0][:, 2:]) / 2).round().long().cpu().numpy()[:, ::-1]
        # Those behind the frame's end are its last pixels'.
        anchor = np.minimum(centre + window.start, np.array(frame.stop) - 1)
        own = ((anchor >= block.start) & (anchor < block.stop)).all(axis=1)
        chosen = torch.from_numpy(own).to(images.device) & (score >= self.proposal_score)
        rows = torch.where(chosen)[0]
        proposals = net.rpn.box_coder.decode(deltas[rows], [boxes[0][rows]]).reshape(-1, 4)
        proposals = clip_boxes_to_image(proposals, limit)
        large = remove_small_boxes(proposals, SMALLEST_PROPOSAL)
        rows, proposals = rows[large], proposals[large]
        best = batched_nms(proposals, score[rows], level[rows], net.rpn.nms_thresh)
        return proposals[best], anchor[rows[best].cpu().numpy()]

    def _objects(
        self,
        net: Any,
        features: dict[str, Tensor],
        proposals: Tensor,
        size: tuple[int, ...],
        limit: tuple[int, int],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Boxes in the window, scores, classes, and the proposal that each comes from."""
        heads = net.roi_heads
        logits, deltas = [], []
        for part in torch.split(proposals, ROIS):
            pooled = heads.box_roi_pool(features, [part], [size])
            logit, delta = heads.box_predictor(heads.box_head(pooled))
            logits.append(logit)
            deltas.append(delta)
        score = torch.softmax(torch.cat(logits), -1)[:, 1:]
        boxes = heads.box_coder.decode(torch.cat(deltas), [proposals])[:, 1:]
        rows, kinds = torch.where(score > self.score)
        boxes = clip_boxes_to_image(boxes[rows, kinds], limit)
        large = remove_small_boxes(boxes, SMALLEST_OBJECT)
        rows, kinds = rows[large], kinds[large]
        return boxes[large], score[rows, kinds], kinds + 1, rows


def _soft_masks(
    net: Any, features: dict[str, Tensor], boxes: Tensor, classes: Tensor, size: tuple[int, ...]
) -> Tensor:
    """Probabilities of the masks within their boxes, (n, 1, M, M)."""
    heads = net.roi_heads
    found = []
    for part, kinds in _parts(boxes, classes):
        pooled = heads.mask_roi_pool(features, [part], [size])
        logits = heads.mask_predictor(heads.mask_head(pooled))
        found.append(maskrcnn_inference(logits, [kinds])[0])
    return torch.cat(found)


def _parts(boxes: Tensor, classes: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(torch.split(boxes, ROIS), torch.split(classes, ROIS), strict=True)


def pasted(soft: Tensor, boxes: Tensor, frame: Box, threshold: float) -> Masks:
    """Masks at the frame's scale, as torchvision's `paste_masks_in_image`, each on its own crop.

    Parameters
    ----------
    soft : Tensor of shape (n, 1, M, M)
        Probabilities within the boxes.
    boxes : Tensor of shape (n, 4), float64
        (x, y, x, y) in the frame, so that rounding does not depend on a window.
    frame : Box
        Masks are cut at its ends.
    threshold : float
        A pixel of higher probability is the object's.
    """
    padded, scale = expand_masks(soft, 1)
    whole = expand_boxes(boxes, scale).to(torch.int64).numpy()
    corner = whole[:, [1, 0]]
    shape = np.maximum(whole[:, [3, 2]] - corner, 0) + 1
    start = np.clip(corner, frame.start, frame.stop)
    inside = np.clip(corner + shape, frame.start, frame.stop) - start
    masks = Masks(start, inside, np.empty(0, np.uint8))
    maps = padded[:, 0].numpy()
    bits = resized_bits(maps, shape, start - corner, inside, masks.offsets, threshold)
    return replace(masks, bits=bits)


def _extent(inside: Box) -> tuple[int, int]:
    y, x = inside.shape
    return y, x
