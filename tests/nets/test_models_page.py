"""docs/models.md: its cards, commands and snippets run."""

from __future__ import annotations

import re
import shlex
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import Result
from model_files import description, entry, write_package

from pipeline.nets.model_folder import load_module, read_card
from pipeline.nets.places import file_sha256

TEXT = (Path(__file__).parents[2] / "docs" / "models.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_the_page_runs_from_its_first_line_to_its_last(
    tmp_path: Path, here: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cards = {re.match(r"# (\S+)", text)[1]: text for text in blocks("yaml")}  # type: ignore[index]
    assert list(cards) == ["cells/card.yaml", "net.onnx.card.yaml", "package.zip.card.yaml"]
    Path("card.yaml").write_text(cards["cells/card.yaml"])

    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for text in blocks("python"):
            exec(compile(text, "docs/models.md", "exec"), names)
    assert names["logits"].shape == (1, 3, 64, 64)

    (command,) = blocks("bash")
    program, *arguments = shlex.split(command)
    assert program == "tilewright"
    (shown,) = blocks("text")
    printed = here(*arguments).output.splitlines()
    for line, wanted in zip(printed, shown.splitlines(), strict=True):
        label = wanted.split(":")[0]
        if label in {"parameters", "halo", "stride", "sha256"}:  # those of the architecture
            assert line.startswith(f"{label}: ")
        else:
            assert line == wanted

    card = yaml.safe_load(cards["net.onnx.card.yaml"])
    window = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        wanted_values = names["net"](window)
        for name in ("net.pt", "net.pt2", "net.onnx"):
            path = Path(name)
            assert file_sha256(path) in here("model", name, expect=2).output
            Path(f"{name}.card.yaml").write_text(
                yaml.safe_dump({**card, "sha256": file_sha256(path)})
            )
            here("model", name)
            assert (load_module(path)(window) - wanted_values).abs().max() < 1e-5

    outputs = description()["outputs"]
    outputs[0]["axes"][1]["channel_names"] = ["channel0", "channel1", "channel2"]
    weights = {"torchscript": entry(Path("net.pt"), pytorch_version="2.7")}
    write_package(
        Path("package.zip"), description(weights=weights, outputs=outputs), Path("net.pt")
    )
    here("model", "package.zip", expect=2)
    Path("package.zip.card.yaml").write_text(cards["package.zip.card.yaml"])
    here("model", "package.zip")
    assert read_card(Path("package.zip")).heads[0].head == "classes"
