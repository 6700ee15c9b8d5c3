"""Mask R-CNN with a feature pyramid: torchvision's, without what depends on the window. Needs torch
and torchvision."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, validate_call
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_large, resnet
from torchvision.models.detection import MaskRCNN as TorchvisionMaskRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from pipeline.nets.architectures.resnet import ResNet

BackboneName = Literal["resnet18", "resnet34", "resnet50", "mobilenet_v3_large"]
Count = Annotated[int, Field(ge=1, le=65536, strict=True)]
Size = Annotated[float, Field(gt=0, le=65536)]

#: Every level of the pyramid is a multiple of it: the last one pools 32 once more.
TOTAL_STRIDE = 64
#: In the place of "the best so many", which would depend on what else a window holds.
NO_LIMIT = 2**31 - 1


class MaskRCNN(nn.Module):
    """Mask R-CNN of torchvision at a fixed scale, without limits on numbers.

    Images are neither resized nor normalised, for both would depend on the window; that is done
    before. Proposals and objects are chosen by their scores, never the best so many. Sides of
    images are multiples of 64, so that anchors lie at multiples of their strides.

    Parameters
    ----------
    in_channels : int
    classes : int
        Background, which is class 0, and kinds of objects.
    backbone : str
        With batch normalisation, and weights drawn from torch's generator.
    backbone_width : int
        Channels of a ResNet's first convolution; 64 in the paper.
    anchor_px : sequence of 5 float
        Sides of the anchors at strides of 4, 8, 16, 32 and 64 px.
    ratios : sequence of float
        Heights of anchors over widths.
    width : int
        Channels of the feature pyramid and of the mask head; 256 in the paper.
    head_width : int
        Channels of the two dense layers of the box head; 1024 in the paper.

    Attributes
    ----------
    net : torchvision.models.detection.MaskRCNN
        Its weights may be loaded where it has 3 channels and a ResNet of the paper's width.

    References
    ----------
    He, Gkioxari, Dollár, Girshick, Mask R-CNN, ICCV 2017, doi:10.1109/ICCV.2017.322
    Lin and others, Feature pyramid networks for object detection, CVPR 2017,
    doi:10.1109/CVPR.2017.106
    """

    @validate_call
    def __init__(
        self,
        in_channels: Count,
        classes: Annotated[int, Field(ge=2, le=65536, strict=True)],
        backbone: BackboneName = "resnet50",
        anchor_px: Sequence[Size] = (32, 64, 128, 256, 512),
        ratios: Sequence[Size] = (0.5, 1, 2),
        width: Count = 256,
        head_width: Count = 1024,
        backbone_width: Count = 64,
    ) -> None:
        super().__init__()
        if len(anchor_px) != 5:
            raise ValueError(f"anchor_px: {len(anchor_px)} sides, and the pyramid has 5 levels.")
        anchors = AnchorGenerator(tuple((side,) for side in anchor_px), (tuple(ratios),) * 5)
        self.net = TorchvisionMaskRCNN(
            _pyramid(backbone, backbone_width, in_channels, width),
            box_head=TwoMLPHead(width * 7 * 7, head_width),
            box_predictor=FastRCNNPredictor(head_width, classes),
            mask_head=MaskRCNNHeads(width, (width,) * 4, 1),
            mask_predictor=MaskRCNNPredictor(width, width, classes),
            rpn_anchor_generator=anchors,
            rpn_pre_nms_top_n_test=NO_LIMIT,
            rpn_post_nms_top_n_test=NO_LIMIT,
            box_detections_per_img=NO_LIMIT,
        )
        self.net.transform = _Unchanged(in_channels)

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        """What torchvision gives: losses in training, else objects with boxes, scores, masks.

        Parameters
        ----------
        images : list of Tensor of shape (C, Y, X)
            Normalised.
        targets : list of dict, in training
            "boxes" (n, 4) as (x, y, x, y), "labels" (n,), "masks" (n, Y, X).
        """
        return self.net(images, targets)


class _Unchanged(GeneralizedRCNNTransform):  # type: ignore[misc]  # torchvision has no types
    """Put images together as they are."""

    def __init__(self, channels: int) -> None:
        mean, std = [0.0] * channels, [1.0] * channels
        super().__init__(1, 1, mean, std, size_divisible=TOTAL_STRIDE)

    def resize(self, image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
        return image, target


def _pyramid(name: BackboneName, backbone_width: int, in_channels: int, width: int) -> nn.Module:
    """The backbone, with maps at strides of 4, 8, 16, 32 and 64 px."""
    layers = ["layer1", "layer2", "layer3", "layer4"]
    if name == "mobilenet_v3_large":
        if backbone_width != 64:
            raise ValueError(
                f"backbone_width: {backbone_width}, and {name} has no other than its own."
            )
        body = mobilenet_v3_large(weights=None).features
        body[0][0] = _widened(body[0][0], in_channels)
        layers = ["3", "6", "12", "16"]
        channels = [body[int(layer)].out_channels for layer in layers]
    elif backbone_width != 64:
        own = ResNet(name, in_channels, backbone_width)
        stages = zip(layers, own.stages, strict=True)
        body = nn.Sequential(OrderedDict([("stem", own.stem), *stages]))
        channels = list(own.channels)
    else:
        body = getattr(resnet, name)(weights=None)
        body.conv1 = _widened(body.conv1, in_channels)
        channels = [body.inplanes // 8 * 2**level for level in range(4)]
    maps = {layer: str(level) for level, layer in enumerate(layers)}
    found: nn.Module = BackboneWithFPN(body, maps, channels, width)  # one more level by pooling
    return found


def _widened(first: nn.Conv2d, in_channels: int) -> nn.Conv2d:
    """The first convolution of a network for images of other channels."""
    if first.in_channels == in_channels:
        return first
    size, stride, padding = first.kernel_size[0], first.stride[0], int(first.padding[0])
    out = nn.Conv2d(in_channels, first.out_channels, size, stride, padding, bias=False)
    nn.init.kaiming_normal_(out.weight, mode="fan_out", nonlinearity="relu")
    return out
