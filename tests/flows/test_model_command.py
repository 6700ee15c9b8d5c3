"""`tilewright model`: facts of a model, errors as a message, and the card that is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import Result
from model_files import CLASSES, card_content, plain, tiny

from pipeline.nets.card import parse_card
from pipeline.nets.model_folder import load_module, read_card, write_model
from pipeline.nets.places import file_sha256

Call = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "cells"
    content = card_content(
        description="For tests.",
        channels=["dna", "actin"],
        heads=[{**CLASSES, "things": ["nucleus"]}, {"head": "flow"}],
        normalisation={"kind": "fixed", "mean": [1, 2], "std": [3, 4]},
        pixel_size_um=[0.5, 0.25],
        licence="MIT",
        authors=["A. Uthor", "B. Uthor"],
        scores={"dice": 0.91234, "pq": 0.8},
    )
    write_model(path, tiny(2, 5), parse_card(content, ""))
    return path


def test_facts_are_one_a_line(here: Call, folder: Path) -> None:
    card = read_card(folder)
    count = sum(x.numel() for x in load_module(folder).parameters())
    assert card.halo_px is not None
    assert card.stride_px is not None
    assert here("model", folder).output.splitlines() == [
        f"model:         tiny ({folder})",
        "               For tests.",
        "architecture:  unet (depth 1, base_channels 4)",
        f"parameters:    {count:,}",
        "input:         dna, actin (2D)",
        "normalisation: fixed (mean 1.0 2.0, std 3.0 4.0)",
        "output:        classes background, nucleus, debris (softmax; things nucleus); "
        "flow (2 channels)",
        "pixel size:    0.5 x 0.25 µm",
        f"halo:          {' x '.join(map(str, card.halo_px))} px",
        f"stride:        {' x '.join(map(str, card.stride_px))} px",
        "licence:       MIT",
        "authors:       A. Uthor, B. Uthor",
        "scores:        dice 0.9123, pq 0.8",
        f"sha256:        {card.sha256} (verified)",
    ]


def test_a_model_that_cannot_be_used_is_one_line(here: Call, folder: Path) -> None:
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    output = here("model", folder, expect=2).output
    assert output.startswith(f"{weights}: the weights are damaged, or those of another model: ")
    assert output.count("\n") == 1
    output = here("model", folder.parent / "cels", expect=2).output
    assert output.startswith(f"model '{folder.parent / 'cels'}': neither a path nor a name")
    assert output.count("\n") == 1


@pytest.mark.parametrize("name", ["net.pt", "net.onnx", "net.pt2"])
def test_a_foreign_file_is_told_its_card(here: Call, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"not looked at")
    output = here("model", path, expect=2).output
    first, _, text = output.partition("\n\n")
    assert first == f"{path}: no card. Write {path}.card.yaml, with what is true of it:"
    card = parse_card(yaml.safe_load(text), "")  # whole: nothing is missing in it
    assert card.sha256 == file_sha256(path)
    assert card.weights == name
    assert (card.halo_px is not None) == (name == "net.onnx")


def test_what_is_missing_in_a_card_is_said(here: Call, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.jit.script(plain()).save(str(path))
    card = tmp_path / "net.pt.card.yaml"
    card.write_text("{format: 1, ndim: 2}")
    assert here("model", path, expect=2).output.splitlines() == [
        f"{card}:",
        "  name: missing.",
        "  channels: missing.",
        "  heads: missing.",
        "  normalisation: missing.",
    ]
    content = card_content(architecture=None, arguments=None, weights=None, sha256=None)
    card.write_text(yaml.safe_dump(content))
    assert f"add `sha256: {file_sha256(path)}`" in here("model", path, expect=2).output
    card.write_text(yaml.safe_dump({**content, "sha256": file_sha256(path)}))
    output = here("model", path).output
    assert "halo:          measured when the model is used\n" in output
    assert "parameters:    " in output
