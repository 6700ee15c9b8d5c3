"""Small models with random weights, for tests."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from pipeline.nets.architectures import build
from pipeline.nets.architectures.mask_rcnn import MaskRCNN
from pipeline.nets.card import ModelCard, parse_card
from pipeline.nets.model_folder import write_model
from pipeline.nets.places import file_sha256

CLASSES = {"head": "classes", "names": ["background", "cell", "rim"], "background": "background"}
BORDER = {"head": "border"}
DISTANCE = {"head": "distance", "unit": "normalised"}
FLOW = {"head": "flow"}
OBJECTS = {"head": "objects", "names": ["round", "long"]}

#: An argument set of every architecture that is small and quick, whatever it sees.
TINY: dict[str, dict[str, Any]] = {
    "unet": {"depth": 2, "base_channels": 4},
    "mask_rcnn": {
        "backbone": "resnet18",
        "anchor_px": [10, 18, 30, 40, 60],
        "ratios": [0.7, 1.4],
        "width": 16,
        "head_width": 32,
    },
    "fc_densenet": {"layout": [1, 2, 3], "growth": 4, "first_channels": 6},
    "fcn": {"stride": 8, "width": 2, "dense_channels": 8},
    "segnet": {"width": 4},
    "deeplab": {
        "backbone": "resnet18",
        "width": 4,
        "output_stride": 8,
        "atrous_rates": [2, 3],
    },
    "pspnet": {"backbone": "resnet18", "width": 4},
    "refinenet": {"backbone": "resnet18", "width": 4, "block_channels": 4, "pooling_steps": 1},
}


def card_content(architecture: str, arguments: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "format": 1,
        "name": f"tiny {architecture}",
        "architecture": architecture,
        "arguments": arguments,
        "ndim": 2,
        "channels": ["grey"],
        "heads": [CLASSES],
        "normalisation": {"kind": "percentiles"},
        "weights": "weights.safetensors",
        "licence": "CC0-1.0",
        **fields,
    }


def random_network(card: ModelCard, seed: int = 0) -> nn.Module:
    """A network whose outputs vary: norms have statistics as after training."""
    torch.manual_seed(seed)
    network = build(
        card.architecture, len(card.channels), card.network_classes, card.arguments
    ).eval()
    if isinstance(network, MaskRCNN):
        spread(network)
        return network
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network


def spread(network: MaskRCNN) -> None:
    """Let scores differ: it then finds thousands of objects that overlap.

    That is harder for suppression than what a trained network finds.
    """
    net = network.net
    with torch.no_grad():
        net.roi_heads.box_predictor.cls_score.weight *= 40
        net.roi_heads.box_predictor.bbox_pred.weight *= 10
        net.roi_heads.mask_predictor.mask_fcn_logits.weight *= 10
        net.rpn.head.cls_logits.weight *= 100
        net.rpn.head.bbox_pred.weight *= 10


@functools.cache
def folder() -> Path:
    """Where the models of this process lie."""
    kept = tempfile.TemporaryDirectory()
    _kept.append(kept)
    return Path(kept.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []


def tiny_model(architecture: str = "unet", seed: int = 0, **fields: Any) -> str:
    """The folder of a small model; `fields` of its card."""
    arguments = {**TINY[architecture], **fields.pop("arguments", {})}
    content = card_content(architecture, arguments, **fields)
    path = folder() / str(abs(hash(repr((content, seed)))))
    if not path.exists():
        card = parse_card(content, "card")
        write_model(path, random_network(card, seed), card)
    return str(path)


def scripted_model(module: nn.Module, name: str, heads: list[Any], **fields: Any) -> str:
    """A model folder with a TorchScript of any module."""
    path = folder() / name
    path.mkdir()
    torch.jit.script(module.eval()).save(str(path / "net.pt"))  # type: ignore[no-untyped-call]
    content = card_content("torchscript", {}, heads=heads, weights="net.pt", **fields)
    content["sha256"] = file_sha256(path / "net.pt")
    (path / "card.yaml").write_text(yaml.safe_dump(content))
    return str(path)


@functools.cache
def echo(kinds: tuple[str, ...], ndim: int = 2) -> str:
    """A model that says what its input channels are: outputs can be drawn as an image.

    Parameters
    ----------
    kinds : tuple of str
        Its heads: "classes", "border", "distance", "flow".
    """
    known = {"classes": CLASSES, "border": BORDER, "distance": DISTANCE, "flow": FLOW}
    heads = [known[kind] for kind in kinds]
    size = {"classes": 3, "border": 3, "distance": 1, "flow": ndim}
    channels = [f"{kind} {i}" for kind in kinds for i in range(size[kind])]
    return scripted_model(
        Echo(len(channels), ndim),
        f"echo {' '.join(kinds)} {ndim}",
        heads,
        ndim=ndim,
        channels=channels,
        normalisation={"kind": "range"},
    )


class Echo(nn.Module):
    """A convolution of 1 px that changes nothing."""

    def __init__(self, channels: int, ndim: int) -> None:
        super().__init__()
        kind = nn.Conv2d if ndim == 2 else nn.Conv3d
        self.same = kind(channels, channels, 1, bias=False)
        self.same.weight.data = torch.eye(channels).reshape(channels, channels, *(1,) * ndim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.same(x)
        return found
