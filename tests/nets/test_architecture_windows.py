"""A logit does not depend on where its window lies, but for layers that see the whole image."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch", reason="needs tilewright[nets]")

from torch import nn  # noqa: E402

from pipeline.nets.architectures import build  # noqa: E402

#: Arguments, total stride, and px at the window's ends that a logit may see beyond, of networks
#: without layers that see the whole image.
LOCAL = {
    "fcn-32": ("fcn", {"stride": 32, "width": 2, "dense_channels": 8}, 32, 256),
    "fcn-16": ("fcn", {"stride": 16, "width": 2, "dense_channels": 8}, 32, 256),
    "fcn-8": ("fcn", {"stride": 8, "width": 2, "dense_channels": 8}, 32, 256),
    "unet": ("unet", {"depth": 3, "base_channels": 4}, 8, 56),
    "unet-3d": ("unet", {"dims": 3, "depth": 2, "base_channels": 4}, 4, 24),
    "segnet": ("segnet", {"width": 4}, 32, 224),
    "deeplab-16": (
        "deeplab",
        {"backbone": "resnet18", "width": 4, "image_pooling": False, "atrous_rates": (2, 3)},
        *(16, 288),
    ),
    "deeplab-8": (
        "deeplab",
        {"backbone": "resnet50", "width": 2, "image_pooling": False, "output_stride": 8}
        | {"atrous_rates": (2, 3)},
        *(8, 256),
    ),
    "refinenet": (
        "refinenet",
        {"backbone": "resnet18", "width": 4, "block_channels": 4, "pooling_steps": 2},
        *(32, 1248),
    ),
    "fc_densenet": ("fc_densenet", {"layout": (1, 2, 3), "growth": 4, "first_channels": 6}, 4, 32),
}
#: Layers that see the whole image, by network.
GLOBAL = {
    "unet-instance": ("unet", {"depth": 2, "base_channels": 4, "norm": "instance"}),
    "unet-group": ("unet", {"depth": 2, "base_channels": 8, "norm": "group"}),
    "deeplab": ("deeplab", {"backbone": "resnet18", "width": 4}),
    "pspnet": ("pspnet", {"backbone": "resnet18", "width": 4}),
}
SEES_ALL = (
    nn.AdaptiveAvgPool2d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.GroupNorm,
)
#: Layers whose output at a pixel follows from pixels at fixed offsets, the same for all pixels of
#: one phase of the stride.
SEES_NEAR = (
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.ReLU,
    nn.MaxPool2d,
    nn.MaxPool3d,
    nn.MaxUnpool2d,
    nn.Dropout,
)


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def random_network(name: str, arguments: dict[str, object]) -> nn.Module:
    """Biases and running statistics are random too, so that zeros at an edge are not neutral."""
    module = build(name, 2, 3, arguments).eval()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.normal_(layer.bias, std=0.2)
            nn.init.normal_(layer.running_mean, std=0.2)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    return module


def difference(
    module: nn.Module, strip: torch.Tensor, shift_px: int, margin_px: int
) -> list[float]:
    """Two windows of one width, the second `shift_px` further: how much logits differ.

    Returns
    -------
    list of float
        The largest difference away from both windows' ends by `margin_px`, and anywhere; in
        standard deviations of the logits.
    """
    width = strip.shape[-1] - shift_px
    with torch.no_grad():
        first, second = module(strip[..., :width]), module(strip[..., shift_px:])
    change = (first[..., shift_px:] - second[..., : width - shift_px]).abs() / first.std()
    inner = change[..., margin_px:-margin_px]
    assert inner.shape[-1] >= 4
    return [inner.max().item(), change.max().item()]


@pytest.mark.parametrize("key", LOCAL)
def test_shift_by_the_stride(key: str) -> None:
    name, arguments, stride, margin = LOCAL[key]
    module = random_network(name, arguments)
    others = (8, 8) if key == "unet-3d" else (32,)
    width = 2 * margin + 4 * stride
    for shift in (stride, 2 * stride):
        inner, anywhere = difference(
            module, torch.randn(1, 2, *others, width + shift), shift, margin
        )
        assert inner < 1e-4
        assert anywhere > 1e-2  # the ends do see that the window has one
    # Half a stride is another phase: the total stride is no smaller than stated.
    half = stride // 2
    inner, _ = difference(module, torch.randn(1, 2, *others, width + half), half, margin)
    assert inner > 1e-2


@pytest.mark.parametrize("key", GLOBAL)
def test_layers_that_see_all(key: str) -> None:
    """What one window sees beyond the other's end changes logits far from it as well."""
    name, arguments = GLOBAL[key]
    module = random_network(name, arguments)
    strip = torch.randn(1, 2, 32, 544)
    strip[..., :32] += 5
    inner, _ = difference(module, strip, 32, 224)
    assert inner > 1e-3
    assert any(isinstance(layer, SEES_ALL) for layer in module.modules())


@pytest.mark.parametrize("key", [*LOCAL, *GLOBAL])
def test_layers_are_of_known_kinds(key: str) -> None:
    """What sees the whole image is a plain layer of torch, which windows can replace."""
    name, arguments = (LOCAL | GLOBAL)[key][:2]
    for path, layer in build(name, 1, 2, arguments).named_modules():
        if type(layer).__module__.startswith("torch.") and not isinstance(
            layer, nn.ModuleList | nn.Sequential
        ):
            kinds = (*SEES_NEAR, *SEES_ALL) if key in GLOBAL else SEES_NEAR
            assert isinstance(layer, kinds), path
            if isinstance(layer, nn.Conv2d | nn.Conv3d):
                assert layer.padding_mode == "zeros", path


def test_unpooling_keeps_to_its_four_pixels() -> None:
    """Indices count from the window's first pixel, yet values return to where they were."""
    x = torch.randn(1, 3, 8, 64)
    pool = nn.MaxPool2d(2, return_indices=True)
    unpool = nn.MaxUnpool2d(2)
    whole, cut = unpool(*pool(x)), unpool(*pool(x[..., 6:-4]))
    assert torch.equal(whole[..., 6:-4], cut)
    assert torch.equal(whole != 0, whole == x)
