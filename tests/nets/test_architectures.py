"""Architectures: shapes, parameters of the papers, gradients, errors. Weights are random."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch", reason="needs tilewright[nets]")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from pipeline.errors import ModelError  # noqa: E402
from pipeline.nets.architectures import ARCHITECTURES, build  # noqa: E402
from pipeline.nets.architectures.padding import pad_to_stride  # noqa: E402
from pipeline.nets.architectures.presets import SMALL, architecture_of  # noqa: E402
from pipeline.nets.architectures.weights import initialise  # noqa: E402

#: The smallest networks that still have every layer, and their total stride.
TINY = {
    "fcn-32": ("fcn", {"stride": 32, "width": 2, "dense_channels": 8}, 32),
    "fcn-16": ("fcn", {"stride": 16, "width": 2, "dense_channels": 8}, 32),
    "fcn-8": ("fcn", {"stride": 8, "width": 2, "dense_channels": 8}, 32),
    "unet": ("unet", {"depth": 2, "base_channels": 4}, 4),
    "unet-plain": ("unet", {"depth": 3, "base_channels": 4, "norm": "none"}, 8),
    "unet-instance": ("unet", {"depth": 2, "base_channels": 4, "norm": "instance"}, 4),
    "unet-group": ("unet", {"depth": 2, "base_channels": 8, "norm": "group"}, 4),
    "unet-3d": ("unet", {"dims": 3, "depth": 2, "base_channels": 4}, 4),
    "segnet": ("segnet", {"width": 2}, 32),
    "deeplab-16": ("deeplab", {"backbone": "resnet18", "width": 4}, 16),
    "deeplab-8": ("deeplab", {"backbone": "resnet18", "width": 4, "output_stride": 8}, 8),
    "deeplab-near": ("deeplab", {"backbone": "resnet50", "width": 2, "image_pooling": False}, 16),
    "pspnet": ("pspnet", {"backbone": "resnet18", "width": 4}, 8),
    "refinenet": ("refinenet", {"backbone": "resnet50", "width": 4, "block_channels": 4}, 32),
    "fc_densenet": ("fc_densenet", {"layout": (1, 2, 3), "growth": 4, "first_channels": 6}, 4),
}
IN_3D = {"unet-3d"}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def tiny(key: str, in_channels: int = 1, classes: int = 3) -> nn.Module:
    name, arguments, _ = TINY[key]
    return build(name, in_channels, classes, arguments)


def image(key: str, channels: int, side: int) -> torch.Tensor:
    axes = (side // 2, side, side - 1) if key in IN_3D else (side, side + 9)
    return torch.randn(2, channels, *axes)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("key", TINY)
def test_shapes(key: str, channels: int) -> None:
    classes, stride = channels % 3 + 1, TINY[key][2]
    module = tiny(key, channels, classes)
    for side in (40, 47):
        odd = image(key, channels, side)
        x = pad_to_stride(odd, stride)
        assert all(n % stride == 0 for n in x.shape[2:])
        logits = module(x)
        assert logits.shape == (2, classes, *x.shape[2:])
        assert logits.dtype == torch.float32
        assert logits.isfinite().all()
        assert logits.std() > 0


def test_padding_repeats_the_last_pixel() -> None:
    x = torch.arange(6.0).reshape(1, 1, 2, 3)
    padded = pad_to_stride(x, 4)[0, 0]
    assert padded.tolist() == [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]]
    assert pad_to_stride(x, (2, 3)) is x
    assert pad_to_stride(torch.zeros(1, 1, 3, 5, 6), (1, 2, 4)).shape == (1, 1, 3, 6, 8)
    assert pad_to_stride(torch.zeros(1, 1, 1, 1), 32).shape == (1, 1, 32, 32)


#: Parameters: arguments, in, classes, ours exactly, the published figure in millions, how near.
COUNTS = {
    # 134.5 in Jégou 2017, table 3; 134 in Long 2015, table 1 (FCN-VGG16).
    "fcn-8": ("fcn", {}, 3, 21, 134_489_759, 134.5, 0.001),
    "fcn-32": ("fcn", {"stride": 32}, 3, 21, 136_152_917, 134.5, 0.013),
    # No figure in the paper: its layers, with biases, have this many.
    "unet": ("unet", {"norm": "none"}, 1, 2, 31_030_658, 31.03, 0.0001),
    # A batch norm has two numbers a channel in the place of one bias: 5,888 channels.
    "unet-norm": ("unet", {}, 1, 2, 31_030_658 + 5_888, 31.03, 0.001),
    # "19069955 parameters in total": Çiçek 2016, section 2.
    "unet-3d": (
        "unet",
        {"dims": 3, "depth": 3, "base_channels": 32, "norm": "none"},
        *(3, 3, 19_069_955, 19.069955, 1e-9),
    ),
    # 29.5 in Jégou 2017, table 3.
    "segnet": ("segnet", {}, 3, 12, 29_441_996, 29.5, 0.003),
    # torchvision's deeplabv3_resnet50 without the auxiliary head; compared in another test too.
    "deeplab": ("deeplab", {"output_stride": 8}, 3, 21, 39_638_869, 39.6, 0.001),
    # No figure in the paper: ResNet-50 without its classes has 23,508,032, the pyramid
    # 4 * (2048 + 2) * 512, the convolution behind it 4096 * 512 * 9 + 1024, the classes 513 * 21.
    "pspnet": (
        "pspnet",
        {},
        *(3, 21, 23_508_032 + 4_198_400 + 18_875_392 + 10_773, 46.7, 0.003),
    ),
    # 118 in Nekrasov 2018 (arXiv:1810.03272), who compare with RefineNet-101.
    "refinenet": ("refinenet", {}, 3, 21, 118_066_773, 118, 0.001),
    # Jégou 2017, table 3: 1.5, 3.5 and 9.4, with the two running statistics of batch norm
    # (`STATISTICS`). The first is not what the layers of the paper have, which is 1.40.
    "densenet-56": ("fc_densenet", {"layout": 56}, 3, 11, 1_376_795, 1.5, 0.07),
    "densenet-67": ("fc_densenet", {"layout": 67}, 3, 11, 3_463_243, 3.5, 0.001),
    "densenet-103": ("fc_densenet", {"layout": 103}, 3, 11, 9_322_091, 9.4, 0.003),
}
STATISTICS = {"densenet-56", "densenet-67", "densenet-103"}


@pytest.mark.parametrize("key", COUNTS)
def test_parameters_of_the_papers(key: str) -> None:
    name, arguments, in_channels, classes, exact, published_m, near = COUNTS[key]
    with torch.device("meta"):
        module = build(name, in_channels, classes, arguments)
    count = sum(parameter.numel() for parameter in module.parameters())
    assert count == exact
    if key in STATISTICS:
        count += sum(buffer.numel() for buffer in module.buffers() if buffer.ndim)
    assert count / 1e6 == pytest.approx(published_m, rel=near)


def test_channels_of_fc_densenet103() -> None:
    """Table 2 of the paper, which prints 578 where its layers have 576."""
    with torch.device("meta"):
        module = build("fc_densenet", 3, 11, {"layout": 103})
    down = [halve[0][2].in_channels for halve in module.halvers]
    assert down == [112, 192, 304, 464, 656]
    assert 656 + 16 * len(module.bottom.layers) == 896
    inputs = [block.layers[0][2].in_channels for block in module.up]
    outputs = [n + 16 * len(block.layers) for n, block in zip(inputs, module.up, strict=True)]
    assert outputs == [1088, 816, 576, 384, 256]
    assert module.classify.in_channels == 256


def test_layers_of_segnet() -> None:
    """13 convolutions each way, each but the last with a batch norm, as figure 2 has it."""
    with torch.device("meta"):
        module = build("segnet", 3, 12, {})
    found = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in found] == [
        *(64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512),
        *(512, 512, 512, 512, 512, 256, 256, 256, 128, 128, 64, 64, 12),
    ]
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert [layer.num_features for layer in norms] == [c.out_channels for c in found[:-1]]


@pytest.mark.parametrize("key", TINY)
def test_gradients_reach_every_parameter(key: str) -> None:
    # Running statistics, as pooled values of few images leave next to nothing of a gradient.
    module = tiny(key).eval()
    x = pad_to_stride(image(key, 1, 40), TINY[key][2])
    module(x).square().mean().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("key", TINY)
def test_equal_seeds_equal_networks(key: str) -> None:
    x = pad_to_stride(image(key, 1, 40), TINY[key][2])
    logits = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        module = tiny(key).eval()
        logits.append(module(x))
        assert torch.equal(module(x), logits[-1])
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])


@pytest.mark.parametrize(
    ("layer", "terms"),
    [
        (nn.Conv2d(64, 64, 3), 64 * 9),
        (nn.Conv3d(16, 64, 3), 16 * 27),
        # An output pixel sees one of the 4 weights of a channel.
        (nn.ConvTranspose2d(64, 256, 2, stride=2), 64),
        # And 9 / 4 of 9 on average.
        (nn.ConvTranspose2d(64, 64, 3, stride=2), 64 * 9 / 4),
    ],
)
def test_first_weights_keep_the_variance(layer: nn.Module, terms: float) -> None:
    initialise(layer)
    assert layer.weight.std().item() == pytest.approx((2 / terms) ** 0.5, rel=0.03)
    assert layer.bias.abs().max() == 0


@pytest.mark.parametrize("preset", SMALL)
def test_small_presets_learn(preset: str) -> None:
    """Few parameters, and ten steps lower the loss of telling bright from dark."""
    arguments = SMALL[preset]
    module = build(architecture_of(preset), 1, 2, arguments)
    assert 1e5 < sum(parameter.numel() for parameter in module.parameters()) < 1e6
    x = torch.randn(2, 1, *((8, 16, 16) if preset == "unet_3d" else (64, 64)))
    wanted = (functional.avg_pool2d(x[:, 0], 5, 1, 2) > 0).long()
    optimiser = torch.optim.Adam(module.parameters(), 1e-3)
    losses = []
    for _ in range(10):
        optimiser.zero_grad()
        loss = functional.cross_entropy(module(x), wanted)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] < 10  # a network that begins far off learns to be less wrong, not the image
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("unett", {}, "unknown architecture 'unett' (did you mean 'unet'?). Known are fcn, unet,"),
        ("unet", {"dept": 3}, "unet: unknown argument 'dept' (did you mean 'depth'?). It takes"),
        ("unet", {"self": 3}, "unet: unknown argument 'self'"),
        ("unet", {"classes": 3}, "unet: unknown argument 'classes'"),
        ("unet", {"depth": 0}, "unet: depth is 0: Input should be greater than or equal to 1"),
        ("unet", {"depth": "4"}, "unet: depth is '4': Input should be a valid integer"),
        ("unet", {"depth": True}, "unet: depth is True: Input should be a valid integer"),
        ("unet", {"norm": "layer"}, "unet: norm is 'layer': Input should be 'batch', 'instance'"),
        ("fcn", {"stride": 4}, "fcn: stride is 4: Input should be 8, 16 or 32"),
        ("deeplab", {"atrous_rates": [6, 0]}, "deeplab: atrous_rates is [6, 0]: Input should"),
        ("deeplab", {"backbone": "vgg"}, "deeplab: backbone is 'vgg': Input should be 'resnet18'"),
        ("pspnet", {"bins": []}, "pspnet: bins is []: Tuple should have at least 1 item"),
        ("fc_densenet", {"layout": [4]}, "layout is [4]: Input should be 56, 67 or 103, or: Tuple"),
        ("fc_densenet", {"dropout": 1.0}, "dropout is 1.0: Input should be less than 1"),
    ],
)
def test_wrong_arguments(name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError) as error:
        build(name, 1, 2, arguments)
    assert message in str(error.value)


@pytest.mark.parametrize(("in_channels", "classes"), [(0, 2), (1, 0), (-1, 2)])
def test_wrong_channels(in_channels: int, classes: int) -> None:
    with pytest.raises(ModelError, match=r"unet: (in_channels|classes) is (0|-1): Input should be"):
        build("unet", in_channels, classes, {})


def test_lists_of_a_card_do_for_tuples() -> None:
    module = build("fc_densenet", 1, 2, {"layout": [1, 1, 1], "first_channels": 4})
    assert module(torch.zeros(1, 1, 8, 8)).shape == (1, 2, 8, 8)


def test_every_architecture_is_tested() -> None:
    assert {name for name, _, _ in TINY.values()} == set(ARCHITECTURES)
    assert {architecture_of(preset) for preset in SMALL} == set(ARCHITECTURES)


def test_without_torch() -> None:
    """Names are known without torch; to build needs it, and the message says what to install."""
    code = """
import sys
sys.modules["torch"] = None
from pipeline.errors import ModelError
from pipeline.nets.architectures import ARCHITECTURES, build
from pipeline.nets.architectures.presets import SMALL
try:
    build("unet", 1, 2, {})
except ModelError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "architecture unet needs torch, which is not installed" in done.stdout
    assert "pip install 'tilewright[nets]'" in done.stdout
