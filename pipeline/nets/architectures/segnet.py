"""SegNet: a decoder that puts values back where pooling found them. Needs torch."""

from __future__ import annotations

from pydantic import validate_call
from torch import Tensor, nn

from pipeline.nets.architectures.arguments import Count
from pipeline.nets.architectures.vgg import CONVOLUTIONS, WIDENING, convolutions, vgg16_stages
from pipeline.nets.architectures.weights import initialise


class SegNet(nn.Module):
    """VGG16 with batch norm, and its mirror image, which unpools with the encoder's indices.

    Indices count from the window's first pixel, but a value returns to the 2 x 2 px that it came
    from, whatever the window. The total stride is 32.

    Parameters
    ----------
    width : int
        Channels of the first stage, 64 in the paper; all others follow.

    References
    ----------
    Badrinarayanan, Kendall, Cipolla, SegNet, 2017, doi:10.1109/TPAMI.2016.2644615
    """

    @validate_call
    def __init__(self, in_channels: Count, classes: Count, width: Count = 64) -> None:
        super().__init__()
        self.encoders = vgg16_stages(in_channels, width, batch_norm=True)
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.unpool = nn.MaxUnpool2d(2)
        channels = [width * widening for widening in WIDENING]
        self.decoders = nn.ModuleList()
        for stage in reversed(range(len(channels))):
            # The last convolution of all is `classify`, which has neither norm nor ReLU.
            number = CONVOLUTIONS[stage] - (stage == 0)
            sizes = [channels[stage]] * number + [channels[max(0, stage - 1)]]
            self.decoders.append(convolutions(sizes, batch_norm=True))
        self.classify = nn.Conv2d(width, classes, 3, padding=1)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, Y, X) to logits (N, classes, Y, X); sides are multiples of 32."""
        found = []
        for encoder in self.encoders:
            x, indices = self.pool(encoder(x))
            found.append(indices)
        for decoder in self.decoders:
            x = decoder(self.unpool(x, found.pop()))
        logits: Tensor = self.classify(x)
        return logits
