"""Statistics of the frame, summed over blocks, beside one pass over the whole frame."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nets.small_nets import Aspp, Backbone, Excitation, UNet, conv, deeplab, pspnet, settled
from pipeline.errors import ModelError
from pipeline.nets.architectures.pooling import ImagePooling, PyramidPooling
from pipeline.nets.context import GlobalContext
from pipeline.nets.frame_window import FrameWindow
from pipeline.nets.statistics import Means, upsampled

#: Of the largest logit; 8e-7 was the most that was seen.
EPSILON = 1e-5

Part = tuple[FrameWindow, tuple[slice, ...]]


def parts(shape: tuple[int, ...], side: tuple[int, ...], halo: tuple[int, ...]) -> Iterator[Part]:
    """Windows of the blocks of a frame, and where they lie."""
    for start in itertools.product(*(range(0, n, s) for n, s in zip(shape, side, strict=True))):
        stop = tuple(min(a + s, n) for a, s, n in zip(start, side, shape, strict=True))
        first = tuple(max(a - h, 0) for a, h in zip(start, halo, strict=True))
        last = [min(b + h, n) for b, h, n in zip(stop, halo, shape, strict=True)]
        yield FrameWindow(first, start, stop, shape), tuple(map(slice, first, last))


def in_blocks(context: GlobalContext, image: Tensor, strides: int) -> Tensor:
    """Logits of blocks of some total strides, one beside the other."""
    side = tuple(strides * stride for stride in context.reach.stride)
    blocks = list(parts(tuple(image.shape[2:]), side, context.reach.halo_px))
    assert len(blocks) > 3
    found: list[np.ndarray] = []
    for number in range(context.count):
        sums = [context.collect(image[(..., *at)], window, found) for window, at in blocks]
        found.append(context.finish(number, sum(sums)))
    logits = None
    for window, at in blocks:
        made = context.forward(image[(..., *at)], window, found)
        if logits is None:
            logits = torch.full((1, made.shape[1], *image.shape[2:]), torch.nan)
        inner = made[(..., *window.block_slices())]
        logits[(..., *map(slice, window.block_start, window.block_stop))] = inner
    return logits


def difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def instance(channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels, affine=True)


def group(channels: int) -> nn.Module:
    return nn.GroupNorm(2, channels)


def untracked(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, track_running_stats=False)


class Smp(nn.Module):
    """A pyramid as segmentation_models_pytorch writes it, with aligned corners."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d((2, 5)), nn.Conv2d(8, 8, 1))
        self.options = {"mode": mode} | ({"align_corners": True} if mode == "bilinear" else {})

    def forward(self, x: Tensor) -> Tensor:
        return x + functional.interpolate(self.pool(x), size=x.shape[2:], **self.options)


NETS = {
    "deeplab": (deeplab, 1),
    "pspnet": (pspnet, 1),
    "aligned": (lambda: settled(Backbone(Smp("bilinear"), 8)), 1),
    "nearest": (lambda: settled(Backbone(Smp("nearest"), 8)), 1),
    "excitation": (lambda: Excitation().eval(), 1),
    "instance": (lambda: UNet(2, norm=instance).eval(), 5),
    "group": (lambda: UNet(2, norm=group).eval(), 5),
    "untracked": (lambda: UNet(2, norm=untracked).eval(), 5),
    "plain": (lambda: UNet(2).eval(), 0),
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("strides", [2, 5])
def test_blocks_give_what_one_pass_over_the_frame_gives(name, strides):
    make, passes = NETS[name]
    context = GlobalContext(make())
    assert context.count == passes
    # Sides that no bins divide; values far from 0, as of a camera.
    image = 5 + torch.randn(1, 1, 28, 52) * torch.linspace(0.1, 2, 52)
    with torch.no_grad():
        expected = context.module(image)
    assert difference(in_blocks(context, image, strides), expected) < EPSILON


def test_volumes():
    context = GlobalContext(UNet(1, 3, norm=nn.InstanceNorm3d).eval())
    image = 5 + torch.randn(1, 1, 12, 20, 22)
    with torch.no_grad():
        expected = context.module(image)
    assert context.count == 3
    assert difference(in_blocks(context, image, 5), expected) < EPSILON


@pytest.mark.parametrize("name", ["deeplab", "pspnet", "instance", "group", "excitation"])
def test_statistics_of_windows_are_not_enough(name):
    context = GlobalContext(NETS[name][0]())
    image = 5 + torch.randn(1, 1, 28, 52) * torch.linspace(0.1, 2, 52)
    side = tuple(3 * stride for stride in context.reach.stride)
    with torch.no_grad():
        expected = context.module(image)
        apart = torch.zeros_like(expected)
        for window, at in parts((28, 52), side, context.reach.halo_px):
            inner = context.module(image[(..., *at)])[(..., *window.block_slices())]
            apart[(..., *map(slice, window.block_start, window.block_stop))] = inner
    assert difference(apart, expected) > 100 * EPSILON


def test_scripts_give_the_same_statistics():
    net = UNet(1, norm=instance).eval()
    image = torch.randn(1, 1, 12, 16)
    with torch.no_grad():
        expected = net(image)
    context = GlobalContext(torch.jit.script(net), 1, 2)
    assert context.count == 3
    assert difference(in_blocks(context, image, 2), expected) < EPSILON


def test_statistics_that_need_one_another_take_passes_and_others_share_one():
    assert GlobalContext(pspnet()).count == 1
    chain = nn.Sequential(
        conv(1, 4, 3), instance(4), ImagePooling(4, 4), PyramidPooling(4, 2, (2, 3))
    )
    assert GlobalContext(settled(chain)).count == 3


def test_a_statistic_does_not_depend_on_how_blocks_are_summed():
    context = GlobalContext(deeplab())
    image = torch.randint(0, 9, (1, 1, 32, 48)).float()
    window = FrameWindow.whole((32, 48))
    whole = context.finish(0, context.collect(image, window, []))
    blocks = parts((32, 48), (8, 16), context.reach.halo_px)
    sums = [context.collect(image[(..., *at)], w, []) for w, at in blocks]
    assert np.allclose(context.finish(0, sum(sums)), whole, rtol=1e-7)
    again = context.collect(image, window, [])
    assert np.array_equal(again, context.collect(image, window, []))
    assert again[0] == 8 * 12  # pixels of the layer


@pytest.mark.parametrize("bins", [(1, 1), (2, 3), (6, 6), (4, 7)])
def test_bins_are_those_of_adaptive_pooling(bins):
    x = torch.randn(1, 3, 11, 13)
    statistic = Means(3, bins)
    total = sum(
        statistic.collect(x[(..., *at)], window) for window, at in parts((11, 13), (3, 5), (1, 2))
    )
    expected = functional.adaptive_avg_pool2d(x, bins)[0]
    assert np.allclose(statistic.finish(total), expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "linear"])
@pytest.mark.parametrize("corners", [False, True])
def test_bins_are_upsampled_as_over_the_whole_frame(mode, corners):
    bins = torch.randn(1, 2, 3, 6)
    options = {"align_corners": corners} if mode == "linear" else {}
    name = "bilinear" if mode == "linear" else mode
    expected = functional.interpolate(bins, (23, 40), mode=name, **options)
    for window, at in parts((23, 40), (7, 16), (2, 4)):
        sides = [cut.stop - cut.start for cut in at]
        found = upsampled(bins, window, sides, mode, corners)
        assert torch.allclose(found, expected[(..., *at)], atol=2e-6)


def test_a_network_without_statistics_costs_nothing():
    net = UNet(1).eval()
    context = GlobalContext(net)
    assert context.windowed is net
    image = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(context.forward(image, FrameWindow.whole((8, 8)), []), net(image))
    with pytest.raises(ValueError, match="all are found"):
        context.collect(image, FrameWindow.whole((8, 8)), [])


class Wandering(nn.Module):
    """Asks for a mean only of bright images."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean((2, 3), keepdim=True) if float(x.max()) > 0 else x


class Jumble(nn.Module):
    """Bins of the frame, added to as many pixels."""

    def forward(self, x: Tensor) -> Tensor:
        small = functional.avg_pool2d(x, (x.shape[2] // 3, x.shape[3] // 3))
        return x + (small + functional.adaptive_avg_pool2d(x, 3)).mean()


def test_what_has_no_statistic_is_refused():
    with pytest.raises(ModelError, match=r"^Jumble: aten::add joins a pooled map of \[3, 3\] bins"):
        GlobalContext(Jumble(), 1, 2)
    with pytest.raises(ModelError, match="no convolution that tells its channels"):
        GlobalContext(nn.ReLU())
    context = GlobalContext(Wandering(), 1, 2)
    assert context.count == 0  # an image of zeros
    with pytest.raises(ModelError, match="taken over all pixels"):
        _ = context.reach
    cubic = Backbone(nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Upsample((9, 9), mode="bicubic")), 8)
    with pytest.raises(ModelError, match="upsampled by cubics"):
        GlobalContext(cubic.eval())
    context = GlobalContext(deeplab())
    with pytest.raises(ValueError, match="statistics need one"):
        context.collect(torch.zeros(2, 1, 8, 8), FrameWindow.whole((8, 8)), [])


def test_the_reach_is_that_of_the_layers_beside_the_statistics():
    with_pooling, without = (
        GlobalContext(settled(Backbone(Aspp((1, 3), pooled=pooled), channels))).reach
        for pooled, channels in ((True, 12), (False, 8))
    )
    assert with_pooling == without
