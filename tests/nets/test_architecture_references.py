"""Architectures against those of torchvision and monai, with the same weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs tilewright[nets]")
models = pytest.importorskip("torchvision.models", reason="needs tilewright[nets]")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from pipeline.nets.architectures import build  # noqa: E402
from pipeline.nets.architectures.fcn import FCN  # noqa: E402
from pipeline.nets.architectures.pooling import ImagePooling, PyramidPooling  # noqa: E402
from pipeline.nets.architectures.resnet import ResNet  # noqa: E402
from pipeline.nets.architectures.vgg import vgg16_stages  # noqa: E402


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def layers_in_order(module: nn.Module, x: torch.Tensor) -> list[nn.Module]:
    """Layers that have weights, in the order in which they run."""
    found: list[nn.Module] = []
    hooks = [
        layer.register_forward_hook(lambda layer, *_: found.append(layer))
        for layer in module.modules()
        if list(layer.parameters(recurse=False))
    ]
    with torch.no_grad():
        module(x)
    for hook in hooks:
        hook.remove()
    return found


def copy_weights(source: nn.Module, target: nn.Module, x: torch.Tensor) -> None:
    """Give each layer the weights of the layer that runs in its place."""
    ours, theirs = layers_in_order(target, x), layers_in_order(source, x)
    assert [type(layer) for layer in ours] == [type(layer) for layer in theirs]
    for own, other in zip(ours, theirs, strict=True):
        own.load_state_dict(other.state_dict())


def make_norms_random(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.bias, std=0.2)
            nn.init.normal_(layer.running_mean, std=0.2)
            nn.init.uniform_(layer.running_var, 0.5, 2)


class UNetOfMonai(nn.Module):
    """The paper's network of monai's blocks; its `BasicUNet` has more channels at the last one."""

    def __init__(self) -> None:
        super().__init__()
        # Imported late: it takes longer than torch, and every process that runs tests reads this.
        blocks = pytest.importorskip("monai.networks.nets.basic_unet", reason="needs monai")
        usual = {"act": "relu", "norm": None, "bias": True}
        self.down = nn.ModuleList([blocks.TwoConv(2, 2, 4, **usual)])
        self.down += [blocks.Down(2, n, 2 * n, **usual) for n in (4, 8, 16)]
        self.up = nn.ModuleList(blocks.UpCat(2, 2 * n, n, n, **usual) for n in (16, 8, 4))
        self.last = nn.Conv2d(4, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = [x]
        for down in self.down:
            seen.append(down(seen[-1]))
        x = seen.pop()
        for up in self.up:
            x = up(x, seen.pop())
        return self.last(x)


def test_unet_is_that_of_monai() -> None:
    theirs = UNetOfMonai().eval()
    ours = build("unet", 2, 3, {"depth": 3, "base_channels": 4, "norm": "none"}).eval()
    x = torch.randn(2, 2, 48, 80)
    copy_weights(theirs, ours, x)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


def test_deeplab_is_that_of_torchvision() -> None:
    theirs = models.segmentation.deeplabv3_resnet50(
        weights=None, weights_backbone=None, num_classes=4
    ).eval()
    make_norms_random(theirs)
    ours = build("deeplab", 3, 4, {"output_stride": 8}).eval()
    x = torch.randn(1, 3, 64, 96)
    copy_weights(theirs, ours, x)
    with torch.no_grad():
        wanted = theirs(x)["out"]
        assert (ours(x) - wanted).abs().max() < 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_resnet_is_that_of_torchvision(stride: int) -> None:
    """Without dilation, with one dilated stage, and with two."""
    dilate = {32: (False, False, False), 16: (False, False, True), 8: (False, True, True)}[stride]
    theirs = models.resnet50(weights=None, replace_stride_with_dilation=dilate).eval()
    make_norms_random(theirs)
    ours = ResNet("resnet50", 3, output_stride=stride).eval()
    body = nn.Sequential(*list(theirs.children())[:-2])
    x = torch.randn(1, 3, 64, 64)
    copy_weights(body, ours, x)
    with torch.no_grad():
        wanted, found = body(x), ours(x)
    assert [f.shape[-1] for f in found] == [16, 8, max(4, 64 // stride), 64 // stride]
    assert (found[-1] - wanted).abs().max() < 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("batch_norm", [False, True])
def test_vgg_is_that_of_torchvision(batch_norm: bool) -> None:
    stages = vgg16_stages(3, 64, batch_norm=batch_norm)
    ours = nn.Sequential(*(layer for stage in stages for layer in (stage, nn.MaxPool2d(2)))).eval()
    theirs = models.vgg.make_layers(models.vgg.cfgs["D"], batch_norm=batch_norm).eval()
    for layer in theirs:
        if batch_norm and isinstance(layer, nn.Conv2d):
            layer.bias = None  # ours has none: the norm takes it away again
    x = torch.randn(1, 3, 32, 64)
    copy_weights(theirs, ours, x)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_fcn_begins_as_bilinear_interpolation(stride: int) -> None:
    module = FCN(1, 3, stride=stride, width=1)
    scores = torch.randn(1, 3, 6, 9)
    for layer, factor in [(module.last, stride), *((up, 2) for up in module.ups)]:
        with torch.no_grad():
            raised = layer(scores)
        wanted = functional.interpolate(
            scores, scale_factor=factor, mode="bilinear", align_corners=False
        )
        # Beyond the window's end a transposed convolution sees zeros, interpolation the last pixel.
        half = factor // 2
        assert raised.shape == wanted.shape
        inner = (..., slice(half, -half), slice(half, -half))
        assert torch.allclose(raised[inner], wanted[inner], atol=1e-6)
        assert not torch.allclose(raised, wanted, atol=1e-2)


def test_pools_are_means_of_parts() -> None:
    x = torch.randn(2, 3, 12, 24)
    module = PyramidPooling(3, 2, (1, 2, 3, 6)).eval()
    assert module.bins == (1, 2, 3, 6)
    pixels = x.numpy().astype(np.float64)
    for bins, branch in zip(module.bins, module.branches, strict=True):
        parts = pixels.reshape(2, 3, bins, 12 // bins, bins, 24 // bins).mean((3, 5))
        assert np.allclose(branch[0](x).numpy(), parts, atol=1e-6)
    with torch.no_grad():
        found = module(x)
        assert found.shape == (2, 3 + 4 * 2, 12, 24)
        assert torch.equal(found[:, :3], x)
        for number, branch in enumerate(module.branches):
            wanted = functional.interpolate(
                branch(x), size=(12, 24), mode="bilinear", align_corners=False
            )
            assert torch.equal(found[:, 3 + 2 * number : 5 + 2 * number], wanted)


def test_image_pooling_is_one_value_a_channel() -> None:
    x = torch.randn(2, 3, 7, 9)
    module = ImagePooling(3, 4).eval()
    with torch.no_grad():
        found = module(x)
        means = torch.from_numpy(x.numpy().astype(np.float64).mean((2, 3))).float()
        wanted = module.branches[0][1:](means[:, :, None, None])
    assert found.shape == (2, 4, 7, 9)
    assert (found == found[..., :1, :1]).all()
    assert torch.allclose(found[..., :1, :1], wanted, atol=1e-6)
