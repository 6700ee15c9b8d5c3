"""PSPNet: a dilated ResNet and means of parts of the image. Needs torch, torchvision."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, validate_call
from torch import Tensor, nn
from torch.nn import functional

from pipeline.nets.architectures.arguments import Count, ResNetName
from pipeline.nets.architectures.pooling import PyramidPooling
from pipeline.nets.architectures.resnet import ResNet
from pipeline.nets.architectures.weights import initialise

STRIDE = 8


class PSPNet(nn.Module):
    """Pyramid pooling on the last stage of a ResNet; the total stride is 8.

    The first convolution is the usual one of 7 x 7 px, not the three of 3 x 3 px of the authors'
    code. The second loss of their training, on stage 3, is left out.

    Parameters
    ----------
    backbone : str
        "resnet18" to "resnet152".
    width : int
        Channels of the backbone's first convolution, 64 in the paper; those of the head follow.
    bins : sequence of int
        Parts along each axis of the whole image, one entry a branch.

    References
    ----------
    Zhao, Shi, Qi, Wang, Jia, Pyramid scene parsing network, CVPR 2017, doi:10.1109/CVPR.2017.660
    """

    @validate_call
    def __init__(
        self,
        in_channels: Count,
        classes: Count,
        backbone: ResNetName = "resnet50",
        width: Count = 64,
        bins: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 2, 3, 6),
    ) -> None:
        super().__init__()
        self.backbone = ResNet(backbone, in_channels, width, STRIDE)
        into = self.backbone.channels[-1]
        branch = max(1, into // len(bins))
        self.pyramid = PyramidPooling(into, branch, bins)
        self.classify = nn.Sequential(
            nn.Conv2d(into + len(bins) * branch, 8 * width, 3, padding=1, bias=False),
            nn.BatchNorm2d(8 * width),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv2d(8 * width, classes, 1),
        )
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, Y, X) to logits (N, classes, Y, X); sides are multiples of 8."""
        x = self.classify(self.pyramid(self.backbone(x)[-1]))
        return functional.interpolate(x, scale_factor=STRIDE, mode="bilinear", align_corners=False)
