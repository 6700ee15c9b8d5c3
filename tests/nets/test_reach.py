"""The measured reach beside known figures, and beside what NaN finds in every place."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from nets.small_nets import Aspp, Backbone, Excitation, SegNet, UNet, conv
from pipeline.errors import ModelError
from pipeline.nets.reach import Reach, measure_reach


def brute_reach(
    module: nn.Module, length: int, ndim: int = 2, width: int = 16, border: int = 0
) -> tuple[int, int]:
    """How far pixels of the first axis look back and ahead, by NaN in every row in turn.

    Pixels nearer to the start than `border` are not looked at.
    """
    images = torch.rand((length, 1, length, *(width,) * (ndim - 1)))
    images[torch.arange(length), :, torch.arange(length)] = torch.nan
    with torch.no_grad():
        lost = module.eval()(images).isnan().flatten(3).any(3).any(1)
    row, out = np.nonzero(lost.numpy())
    row, out = row[out >= border], out[out >= border]
    return int((out - row).max()), int((row - out).max())


def symmetric(reach: Reach, stride: int, px: int) -> bool:
    ndim = len(reach.stride)
    return reach == Reach((stride,) * ndim, (px,) * ndim, (px,) * ndim)


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_unet_looks_as_far_as_the_formula(depth):
    reach = measure_reach(UNet(depth).eval(), 1, 2)
    assert symmetric(reach, 2**depth, 7 * 2**depth - 5)
    assert reach.halo_px == (-(-(7 * 2**depth - 5) // 2**depth) * 2**depth,) * 2


@pytest.mark.parametrize("ndim", [2, 3])
def test_unet_looks_as_far_as_nan_finds(ndim):
    reach = measure_reach(UNet(1, ndim).eval(), 1, ndim)
    assert brute_reach(UNet(1, ndim), 32, ndim, 8) == (reach.before[0], reach.after[0]) == (9, 9)


@pytest.mark.parametrize("side", [1, 3, 5, 7])
@pytest.mark.parametrize("dilation", [1, 2, 5])
def test_one_convolution(side, dilation):
    reach = measure_reach(conv(1, 2, side, dilation), 1, 2)
    assert symmetric(reach, 1, dilation * (side - 1) // 2)


def test_axes_are_measured_apart():
    net = nn.Sequential(nn.Conv3d(1, 2, (1, 3, 7), padding=(0, 1, 3)), nn.AvgPool3d((1, 2, 2)))
    up = nn.Upsample(scale_factor=(1, 2, 2))
    reach = measure_reach(nn.Sequential(*net, up), 1, 3)
    assert reach == Reach((1, 2, 2), (0, 2, 4), (0, 2, 4))
    assert reach.halo_px == (0, 2, 4)


def test_aspp_looks_as_far_as_its_largest_rate():
    # Behind two strides of 2, each step of the rate is 4 px.
    near, far = (
        measure_reach(Backbone(Aspp((1, rate), pooled=False), 8).eval(), 1, 2) for rate in (6, 18)
    )
    assert far.stride == (4, 4)
    assert [b - a for a, b in zip(near.before, far.before, strict=True)] == [48, 48]
    assert [b - a for a, b in zip(near.after, far.after, strict=True)] == [48, 48]


def test_segnet_gives_values_back_to_their_places():
    reach = measure_reach(SegNet().eval(), 1, 2)
    found = brute_reach(SegNet(), 32)
    assert found == (reach.before[0], reach.after[0])
    assert reach.stride == (2, 2)
    assert reach.unpools
    assert not measure_reach(UNet(1).eval(), 1, 2).unpools


class Flow(nn.Module):
    """Control flow, cuts, mirrored borders, pixel shuffling, matrices over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3)
        self.matrix = nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)
        self.last = nn.Conv2d(2, 2, 3, padding=1, padding_mode="replicate")

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(functional.pad(x, (1, 1, 1, 1), mode="reflect"))
        x = self.norm(self.matrix(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        x = functional.pixel_shuffle(x[:, :, ::2, ::2], 2)
        for _ in range(2):
            x = functional.silu(self.last(x))
        return x.softmax(1)[..., :, :]


def test_flow_of_many_kinds():
    reach = measure_reach(Flow().eval(), 1, 2)
    assert brute_reach(Flow(), 32) == (reach.before[0], reach.after[0]) == (4, 3)
    assert reach.stride == (2, 2)


def test_scripts_and_exported_programs_are_measured_as_modules():
    net = UNet(2).eval()
    expected = measure_reach(net, 1, 2)
    assert measure_reach(torch.jit.script(net), 1, 2) == expected
    assert measure_reach(torch.jit.trace(net, torch.zeros(1, 1, 32, 32)), 1, 2) == expected
    y, x = (4 * torch.export.Dim(name, min=2, max=4096) for name in "yx")
    program = torch.export.export(net, (torch.zeros(1, 1, 32, 32),), dynamic_shapes=({2: y, 3: x},))
    assert measure_reach(program.module(), 1, 2) == expected


def test_values_that_steer_the_network_are_looked_at():
    class Steered(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = nn.Parameter(torch.ones(1))
            self.near, self.far = conv(1, 1, 3), conv(1, 1, 7)

        def forward(self, x):
            return self.near(x) if float(self.gate) > 0 else self.far(x)

    assert symmetric(measure_reach(Steered(), 1, 2), 1, 1)


def test_a_cut_and_a_border_of_zeros_need_the_pixels_that_were_cut():
    class Framed(nn.Module):
        def forward(self, x):
            return functional.pad(x[:, :, 2:-2, 2:-2], (2, 2, 2, 2))

    # A pixel depends on no other, but the border of a window is not the border of the frame.
    assert symmetric(measure_reach(Framed(), 1, 2), 1, 2)


class Positions(nn.Module):
    def forward(self, x):
        return x + torch.arange(x.shape[-1], device=x.device)


class Written(nn.Module):
    def forward(self, x):
        made = x * 1
        made[:, :, 1:] = x[:, :, :-1]
        return made


class Attention(nn.Module):
    def forward(self, x):
        rows = x.flatten(2)
        return (rows.transpose(1, 2) @ rows).softmax(-1)[:, None]


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), "aligns corners"),
        (nn.AdaptiveAvgPool2d(3), "taken over all pixels"),
        (nn.AdaptiveMaxPool2d(1), "not known to look at near pixels"),
        (nn.Sequential(conv(1, 2, 3), nn.GroupNorm(1, 2)), "native_group_norm in the module 1 is"),
        (nn.InstanceNorm2d(1), "takes means of the image"),
        (nn.BatchNorm2d(1).train(), "takes means of the image"),
        (nn.Dropout(0.5).train(), "eval"),
        (Excitation(), "aten::mean"),
        (nn.Softmax(2), "mixes pixels of any distance"),
        (nn.Flatten(2), r"gives no array of logits"),
        (Attention(), "mixes pixels of any distance"),
        (Positions(), "places of its own"),
        (Written(), "writes into a part"),
        (nn.Conv2d(1, 1, 3), r"gives logits of \["),
        (nn.MaxPool2d(2), r"gives logits of \["),
        (nn.Upsample(size=(960, 960)), "depends on the size|gives logits"),
        (nn.Conv2d(3, 1, 1), "channels"),
    ],
)
def test_what_cannot_run_in_windows_is_refused_by_name(module, message):
    with pytest.raises(ModelError, match=message) as caught:
        measure_reach(module, 1, 2, name="my-model")
    assert str(caught.value).startswith("my-model: ")


# --- Drawn networks ------------------------------------------------------------------------------


def flat_layers() -> st.SearchStrategy[list[nn.Module]]:
    layer = st.one_of(
        st.builds(
            lambda k, d: [conv(2, 2, k, d)], st.sampled_from([1, 3, 5]), st.sampled_from([1, 2])
        ),
        st.sampled_from([3, 5]).map(lambda k: [nn.MaxPool2d(k, 1, k // 2)]),
        st.sampled_from([3, 5]).map(lambda k: [nn.AvgPool2d(k, 1, k // 2)]),
        st.just([nn.ZeroPad2d((1, 0, 1, 0)), nn.Conv2d(2, 2, 2)]),
        st.just([nn.ReflectionPad2d(1), nn.Conv2d(2, 2, 3)]),
        st.just([nn.ConvTranspose2d(2, 2, 3, padding=1)]),
        st.just([nn.ReLU(), nn.BatchNorm2d(2)]),
    )
    return st.lists(layer, min_size=1, max_size=4).map(
        lambda found: [part for layer in found for part in layer]
    )


class Level(nn.Module):
    """Down, layers, up, and a skip."""

    def __init__(self, down: nn.Module, inner: nn.Module, up: nn.Module, skip: str) -> None:
        super().__init__()
        self.down, self.inner, self.up = down, inner, up
        self.join = nn.Conv2d(4, 2, 1) if skip == "cat" else None
        self.add = skip == "add"

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(self.inner(self.down(x)))
        if self.join:
            return self.join(torch.cat([x, y], 1))
        return x + y if self.add else y


def levels(inner: st.SearchStrategy[nn.Module]) -> st.SearchStrategy[nn.Module]:
    downs = {
        2: [
            lambda: nn.MaxPool2d(2),
            lambda: nn.AvgPool2d(2),
            lambda: nn.MaxPool2d(3, 2, 1),
            lambda: nn.Conv2d(2, 2, 3, 2, 1),
            lambda: nn.Conv2d(2, 2, 4, 2, 1),
        ],
        3: [lambda: nn.MaxPool2d(3), lambda: nn.Conv2d(2, 2, 3, 3)],
    }
    ups = {
        f: [
            lambda f=f: nn.ConvTranspose2d(2, 2, f, f),
            lambda f=f: nn.ConvTranspose2d(2, 2, 2 * f - f % 2, f, f // 2),
            lambda f=f: nn.Upsample(scale_factor=f),
            lambda f=f: nn.Upsample(scale_factor=f, mode="nearest-exact"),
            lambda f=f: nn.Upsample(scale_factor=f, mode="bilinear"),
            lambda f=f: nn.Upsample(scale_factor=f, mode="bicubic"),
            lambda f=f: nn.Sequential(nn.Conv2d(2, 2 * f * f, 1), nn.PixelShuffle(f)),
        ]
        for f in (2, 3)
    }
    return st.sampled_from([2, 2, 3]).flatmap(
        lambda f: st.builds(
            lambda down, net, up, skip: Level(down(), net, up(), skip),
            st.sampled_from(downs[f]),
            inner,
            st.sampled_from(ups[f]),
            st.sampled_from(["cat", "add", "none"]),
        )
    )


def sequences(parts: st.SearchStrategy[nn.Module]) -> st.SearchStrategy[nn.Module]:
    flat = flat_layers().map(lambda layers: nn.Sequential(*layers))
    return st.builds(lambda a, b, c: nn.Sequential(a, b, c), flat, parts, flat)


FLAT = flat_layers().map(lambda layers: nn.Sequential(*layers))
NETS = sequences(levels(st.one_of(FLAT, sequences(levels(FLAT)))))


@settings(max_examples=25, deadline=None)
@given(FLAT)
def test_plain_stacks_look_exactly_as_far_as_nan_finds(layers):
    net = nn.Sequential(nn.Conv2d(1, 2, 1), layers).eval()
    reach = measure_reach(net, 1, 2)
    length = 2 * reach.halo_px[0] + 8
    assert brute_reach(net, length) == (reach.before[0], reach.after[0])


@settings(max_examples=40, deadline=None)
@given(NETS)
def test_no_drawn_network_looks_farther_than_measured(layers):
    net = nn.Sequential(nn.Conv2d(1, 2, 1), layers).eval()
    reach = measure_reach(net, 1, 2)
    stride = reach.stride[0]
    length = -(-min(2 * reach.halo_px[0] + 2 * stride, 100) // stride) * stride
    width = -(-12 // stride) * stride
    # Bilinear pixels at the border read one index more with the weight 0, and 0 * NaN is NaN.
    bilinear = any(getattr(part, "mode", None) == "bilinear" for part in net.modules())
    before, after = brute_reach(net, length, width=width, border=stride * bilinear)
    assert before <= reach.before[0]
    assert after <= reach.after[0]
    check_blocks(net, reach, torch.randn(1, 1, length, width))


def check_blocks(net: nn.Module, reach: Reach, image: Tensor) -> None:
    """Blocks in windows that are clipped at the frame have the values of the frame."""
    halo, stride, length = reach.halo_px[0], reach.stride[0], image.shape[2]
    with torch.no_grad():
        expected = net(image)
        for start in range(0, length, stride):
            first, last = max(start - halo, 0), min(start + stride + halo, length)
            found = net(image[:, :, first:last])[:, :, start - first :][:, :, :stride]
            difference = (found - expected[:, :, start : start + stride]).abs().max()
            assert difference <= 1e-5 * max(1.0, float(expected.abs().max()))
