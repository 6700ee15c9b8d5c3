"""Small models and files of other programs, for tests."""

from __future__ import annotations

import functools
import hashlib
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from pipeline.nets.architectures import build

ARGUMENTS = {"depth": 1, "base_channels": 4}
CLASSES = {
    "head": "classes",
    "names": ["background", "nucleus", "debris"],
    "background": "background",
}


def tiny(in_channels: int = 1, classes: int = 3, seed: int = 0) -> nn.Module:
    """A network of ours in eval mode, with statistics that are not those of a new one."""
    torch.manual_seed(seed)
    module = build("unet", in_channels, classes, ARGUMENTS)
    for buffer in module.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    return module.eval()


class Plain(nn.Module):
    """A network that is nobody's: two levels, stride 2."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.down = nn.MaxPool2d(2)
        self.low = nn.Conv2d(4, 4, 3, padding=1)
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.last = nn.Conv2d(8, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = torch.relu(self.norm(self.first(x)))
        low = self.up(torch.relu(self.low(self.down(first))))
        return self.last(torch.cat([first, low], 1))


def plain() -> nn.Module:
    """That network in eval mode."""
    torch.manual_seed(0)
    return Plain().eval()


def card_content(**changes: Any) -> dict[str, Any]:
    """A card's keys; None removes one."""
    content = {
        "format": 1,
        "name": "tiny",
        "architecture": "unet",
        "arguments": ARGUMENTS,
        "ndim": 2,
        "channels": ["dna"],
        "heads": [CLASSES],
        "normalisation": {"kind": "percentiles", "low": 1, "high": 99.8},
        "weights": "weights.safetensors",
        "sha256": "0" * 64,
        **changes,
    }
    return {key: value for key, value in content.items() if value is not None}


def write_card(path: Path, **content: Any) -> Path:
    """Write a card, and its sha256 where the weights are there and none is given."""
    weights = path.parent / str(content.get("weights", path.name.removesuffix(".card.yaml")))
    if "sha256" not in content and weights.is_file():
        content["sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    path.write_text(yaml.safe_dump(content))
    return path


def foreign_card(file: Path, **changes: Any) -> Path:
    """Write the card beside a foreign file."""
    content = card_content(architecture=None, arguments=None, sha256=None, weights=None)
    if file.suffix == ".onnx":
        content |= {"halo_px": [8, 8], "stride_px": [2, 2]}
    content |= changes
    content = {key: value for key, value in content.items() if value is not None}
    return write_card(file.with_name(file.name + ".card.yaml"), **content)


def window(in_channels: int = 1, side: int = 48, seed: int = 1) -> torch.Tensor:
    """Pixels of a window."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((1, in_channels, side, side + 16), generator=generator)


def export(module: nn.Module, path: Path) -> Path:
    """Write a module in the format that its suffix says: .pt, .pt2 or .onnx."""
    example = torch.rand(2, 1, 32, 48)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.suffix == ".pt":
            torch.jit.script(module).save(str(path))
        elif path.suffix == ".pt2":
            sizes = {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
            torch.export.save(
                torch.export.export(module, (example,), dynamic_shapes=(sizes,)), path
            )
        else:
            free = torch.export.Dim.DYNAMIC
            torch.onnx.export(
                module,
                (example,),
                path,
                dynamo=True,
                dynamic_shapes=({0: free, 2: free, 3: free},),
                external_data=False,
                verbose=False,
            )
    return path


@functools.cache
def exported(suffix: str) -> bytes:
    """That network in the format of a suffix; made once, for exporting takes seconds."""
    with tempfile.TemporaryDirectory() as folder:
        return export(plain(), Path(folder, f"net{suffix}")).read_bytes()


def description(**changes: Any) -> dict[str, Any]:
    """An rdf.yaml of format 0.5 without weights."""
    space = [{"type": "space", "id": axis, "size": {"min": 64, "step": 2}} for axis in "yx"]
    same = [
        {
            "type": "space",
            "id": axis,
            "halo": 8,
            "size": {"tensor_id": "raw", "axis_id": axis},
        }
        for axis in "yx"
    ]
    content: dict[str, Any] = {
        "type": "model",
        "format_version": "0.5.3",
        "name": "Tiny nuclei",
        "description": "For tests.",
        "authors": [{"name": "A. Uthor"}],
        "license": "MIT",
        "cite": [{"text": "A paper", "doi": "10.1000/xyz123"}],
        "documentation": "README.md",
        "inputs": [
            {
                "id": "raw",
                "axes": [
                    {"type": "batch"},
                    {"type": "channel", "channel_names": ["dna"]},
                    *space,
                ],
                "data": {"type": "float32"},
                "test_tensor": {"source": "in.npy"},
                "preprocessing": [
                    {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["y", "x"], "eps": 1e-5}}
                ],
            }
        ],
        "outputs": [
            {
                "id": "out",
                "axes": [
                    {"type": "batch"},
                    {"type": "channel", "channel_names": ["background", "nucleus", "debris"]},
                    *same,
                ],
                "data": {"type": "float32"},
                "test_tensor": {"source": "out.npy"},
                "postprocessing": [{"id": "softmax", "kwargs": {"axis": "channel"}}],
            }
        ],
    }
    return content | changes


def entry(weights: Path, **more: Any) -> dict[str, Any]:
    """What a description says of a file of weights."""
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    return {"source": weights.name, "sha256": sha256, **more}


def write_package(path: Path, content: dict[str, Any], *files: Path) -> Path:
    """Write a bioimage.io package, as a zip archive."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rdf.yaml", yaml.safe_dump(content))
        for file in files:
            archive.write(file, file.name)
    return path
