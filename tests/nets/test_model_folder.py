"""Models as folders: found, read, written, and refused before anything of them is used."""

from __future__ import annotations

import json
import os
import pickle
import re
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from model_files import ARGUMENTS, CLASSES, card_content, tiny, window, write_card
from safetensors.torch import save_file
from torch import nn

from pipeline.errors import ModelError
from pipeline.nets.card import ModelCard, parse_card
from pipeline.nets.model_folder import load_module, model_digest, read_card, write_model
from pipeline.nets.places import CARD, VARIABLE, file_sha256, find_model
from pipeline.nets.reach import measure_reach

WEIGHTS = "weights.safetensors"


def card(**changes: Any) -> ModelCard:
    return parse_card(card_content(**changes), "card.yaml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of ours."""
    path = tmp_path / "cells"
    write_model(path, tiny(), card())
    return path


def names(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def rewrite(folder: Path, **changes: Any) -> None:
    """Change keys of the card; None removes one."""
    content = {**yaml.safe_load((folder / CARD).read_text()), **changes}
    kept = {key: value for key, value in content.items() if value is not None}
    (folder / CARD).write_text(yaml.safe_dump(kept))


def put(folder: Path, data: bytes) -> None:
    """Other weights, with their digest: what the digest alone does not find."""
    (folder / WEIGHTS).write_bytes(data)
    rewrite(folder, sha256=file_sha256(folder / WEIGHTS))


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_module(folder)
    return str(caught.value).replace(str(folder), "MODEL")


# ---- writing and reading ----


def test_a_model_that_was_written_is_the_model(folder: Path) -> None:
    module = load_module(folder)
    assert not module.training
    assert {x.dtype for x in module.parameters()} == {torch.float32}
    assert {x.device.type for x in module.parameters()} == {"cpu"}
    with torch.no_grad():
        assert torch.equal(module(window()), tiny()(window()))


def test_writing_fills_in_the_facts(folder: Path) -> None:
    found = read_card(folder)
    reach = measure_reach(tiny(), 1, 2)
    assert found.halo_px == tuple(reach.halo_px)
    assert found.stride_px == tuple(reach.stride)
    assert found.sha256 == file_sha256(folder / WEIGHTS)
    assert names(folder) == [CARD, WEIGHTS]
    assert names(folder.parent) == ["cells"]
    given = card()
    for key in set(ModelCard.model_fields) - {"halo_px", "stride_px", "sha256"}:
        assert getattr(found, key) == getattr(given, key)


def test_no_background_is_written_as_such(tmp_path: Path) -> None:
    heads = [{**CLASSES, "background": None}]
    write_model(tmp_path / "a", tiny(), card(heads=heads))
    assert read_card(tmp_path / "a").heads == card(heads=heads).heads


def test_writing_refuses_to_overwrite(folder: Path) -> None:
    before = model_digest(folder)
    with pytest.raises(ModelError, match=r"cells: exists already\. Choose another folder"):
        write_model(folder, tiny(seed=1), card())
    assert model_digest(folder) == before


def test_a_model_that_would_not_open_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"weights have no place|has the shape"):
        write_model(tmp_path / "a", tiny(classes=4), card())
    broken = tiny()
    next(broken.parameters()).data.fill_(float("nan"))
    with pytest.raises(ModelError, match=r"holds NaN or infinity\. Train the model anew"):
        write_model(tmp_path / "a", broken, card())
    with pytest.raises(ModelError, match="architecture 'torchscript' is written by others"):
        write_model(tmp_path / "a", tiny(), card(architecture="torchscript"))
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=r"the model cannot be written \(.*Not a directory"):
        write_model(tmp_path / "file" / "model", tiny(), card())


def test_half_precision_weights_become_float32(folder: Path) -> None:
    tensors = {name: x.half() for name, x in tiny().state_dict().items()}
    save_file(tensors, folder / WEIGHTS)
    rewrite(folder, sha256=file_sha256(folder / WEIGHTS))
    assert {x.dtype for x in load_module(folder).parameters()} == {torch.float32}


# ---- the digest ----


def test_the_digest_follows_card_and_weights(folder: Path, tmp_path: Path) -> None:
    first = model_digest(folder)
    folder.rename(tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere"
    assert model_digest(moved) == first
    (moved / "notes.txt").write_text("no part of it")
    assert model_digest(moved) == first
    rewrite(moved, normalisation={"kind": "range"})
    second = model_digest(moved)
    assert second != first
    data = bytearray((moved / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (moved / WEIGHTS).write_bytes(data)
    assert model_digest(moved) not in {first, second}


# ---- finding ----


def test_a_model_is_found_beside_the_recipe_by_path_and_by_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_model(str(folder)) == folder
    assert find_model("cells", beside=tmp_path) == folder
    assert find_model("../cells", beside=folder) == folder / "../cells"
    monkeypatch.chdir(tmp_path)
    assert find_model("cells", beside=Path("/nonexistent")) == Path("cells")
    monkeypatch.chdir("/")
    monkeypatch.setenv(VARIABLE, f"/nonexistent{os.pathsep}{tmp_path}")
    assert find_model("cells") == folder


def test_shipped_models_go_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = folder.parent / "package" / "pipeline"
    (package / "nets").mkdir(parents=True)
    monkeypatch.setattr("pipeline.nets.places.__file__", str(package / "nets" / "places.py"))
    shipped = package.parent / "configs" / "models"  # a checkout
    shipped.mkdir(parents=True)
    (shipped / "cells").symlink_to(folder)
    with pytest.raises(ModelError, match="neither a path nor a name"):
        find_model("cells")  # a link out of the folder
    (shipped / "cells").unlink()
    folder.rename(shipped / "cells")
    assert find_model("cells") == shipped / "cells"
    (package / "models").mkdir()  # an installed wheel
    (shipped / "cells").rename(package / "models" / "cells")
    assert find_model("cells") == package / "models" / "cells"


def test_a_name_that_is_none_is_said(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(ModelError) as caught:
        find_model("cels")
    message = str(caught.value)
    assert message.startswith(
        "model 'cels': neither a path nor a name (did you mean 'cells'?). Names are searched in "
        f"{tmp_path}, "
    )
    assert f"the variable {VARIABLE} adds folders. Known: cells" in message
    (tmp_path / "names").mkdir()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "names"))
    with pytest.raises(ModelError, match="neither a path nor a name"):
        find_model("../cells")  # a name does not climb
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"empty: no model\. A model is a folder with card\.yaml,"):
        find_model(str(tmp_path / "empty"))


# ---- weights ----


def test_damaged_weights_are_found_before_they_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (folder / WEIGHTS).read_bytes()

    def never(*_: Any) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr("pipeline.nets.weights.load_tensors", never)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 4
    for data in (bytes(flipped), whole[:-1], whole + b"\0", b""):
        (folder / WEIGHTS).write_bytes(data)
        assert re.fullmatch(
            rf"MODEL/{WEIGHTS}: the weights are damaged, or those of another model: {len(data):,} "
            r"bytes with sha256 [0-9a-f]{64}, and the card says [0-9a-f]{64}\. Copy the model "
            r"again\.",
            refusal(folder),
        )


def test_weights_without_a_digest_are_not_read(folder: Path) -> None:
    rewrite(folder, sha256=None)
    digest = file_sha256(folder / WEIGHTS)
    assert refusal(folder) == (
        "MODEL/card.yaml: sha256: missing; weights are checked before they are read. If they are "
        f"those that you mean, add `sha256: {digest}`."
    )


class Harm:
    """A pickle that makes a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_pickles_are_not_opened(folder: Path, tmp_path: Path) -> None:
    harm = tmp_path / "harm"
    for protocol in (2, 4, 5):
        put(folder, pickle.dumps(Harm(harm), protocol))
        assert refusal(folder) == (
            f"MODEL/{WEIGHTS}: a pickle of Python objects under the name of safetensors; opening "
            "it could run any code. Write it with `safetensors.torch.save_file` where the model "
            "is known."
        )
    torch.save(Harm(harm), tmp_path / "x")
    put(folder, (tmp_path / "x").read_bytes())
    assert "a pickle of Python objects" in refusal(folder)
    put(folder, pickle.dumps(Harm(harm), 0))  # text, which begins with no mark
    assert "no safetensors file: its header would have" in refusal(folder)
    assert not harm.exists()


@pytest.mark.parametrize("length", [0, 1, 2**24, 2**40, 2**63 + 5])
def test_a_header_is_as_long_as_can_be(folder: Path, length: int) -> None:
    put(folder, struct.pack("<Q", length) + b"{}" * 10)
    assert refusal(folder) == (
        f"MODEL/{WEIGHTS}: no safetensors file: its header would have {length:,} bytes, of a file "
        "of 28; 26,214,400 are read at most."
    )


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 400]}},
        {"a": {"dtype": "X", "shape": [1], "data_offsets": [0, 4]}},
        [],
    ],
)
def test_headers_that_lie_are_refused(folder: Path, header: Any) -> None:
    text = json.dumps(header).encode()
    put(folder, struct.pack("<Q", len(text)) + text + b"\0" * 4)
    assert refusal(folder).startswith(f"MODEL/{WEIGHTS}: a damaged safetensors file (")


def test_headers_that_nest_without_end_are_refused(folder: Path) -> None:
    text = b"[" * 200_000
    put(folder, struct.pack("<Q", len(text)) + text)
    assert refusal(folder).startswith(f"MODEL/{WEIGHTS}: a damaged safetensors file (")


def test_weights_of_another_network_are_named(folder: Path) -> None:
    def saved(tensors: dict[str, torch.Tensor]) -> str:
        save_file(tensors, folder / WEIGHTS)
        rewrite(folder, sha256=file_sha256(folder / WEIGHTS))
        return refusal(folder)

    whole = {name: x.clone() for name, x in tiny().state_dict().items()}
    keys = list(whole)
    remedy = "Do `architecture`, `arguments`, `channels` and `heads` of the card belong to them?"
    less = {name: x for name, x in whole.items() if name != keys[0]}
    renamed = {**less, f"{keys[0]}s": whole[keys[0]]}
    assert saved(renamed) == (
        f"MODEL/{WEIGHTS}: weights are missing: {keys[0]} (did you mean '{keys[0]}s'?). {remedy}"
    )
    assert saved({**whole, "head.extra": torch.zeros(1)}).startswith(
        f"MODEL/{WEIGHTS}: weights have no place: head.extra"
    )
    assert saved({**whole, keys[0]: torch.zeros(7)}).startswith(
        f"MODEL/{WEIGHTS}: {keys[0]} has the shape (7,), and the network wants "
    )
    assert f"{keys[0]}, {keys[1]}, {keys[2]} and {len(keys) - 3} more" in saved(
        {"a": torch.zeros(1)}
    )


# ---- the card's words ----


def test_a_card_cannot_name_a_file_elsewhere(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.safetensors"
    outside.write_bytes((folder / WEIGHTS).read_bytes())
    (folder / "link.safetensors").symlink_to(outside)
    for name in ("../outside.safetensors", str(outside), "link.safetensors", "x/../../cells"):
        rewrite(folder, weights=name)
        if name == "x/../../cells":
            assert refusal(folder).startswith(f"MODEL/card.yaml: weights: {name!r} ") or (
                "there is no file" in refusal(folder)
            )
            continue
        assert refusal(folder) == (
            f"MODEL/card.yaml: weights: {name!r} lies outside the model's folder. Copy the file "
            "there."
        )
        with pytest.raises(ModelError, match="lies outside the model's folder"):
            model_digest(folder)
    rewrite(folder, weights="other.safetensors")
    assert refusal(folder) == (
        "MODEL/card.yaml: weights: there is no file 'other.safetensors' in MODEL."
    )


def test_an_architecture_that_is_none_is_said(folder: Path) -> None:
    rewrite(folder, architecture="unte")
    message = refusal(folder)
    assert "unte" in message
    assert "unet" in message


@pytest.mark.parametrize("arguments", [{"depth": "one"}, {**ARGUMENTS, "wings": 2}])
def test_arguments_that_do_not_fit_are_said(folder: Path, arguments: dict[str, Any]) -> None:
    rewrite(folder, arguments={**arguments, "base_channels": "many"})
    message = refusal(folder)
    assert "one" in message or "wings" in message
    assert "\n" not in message


def test_a_module_that_fails_to_build_names_card_and_arguments(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: Any) -> nn.Module:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("pipeline.nets.opening.build", build)
    assert refusal(folder) == (
        "tiny: architecture 'unet' cannot be built with the arguments depth: 1, base_channels: 4 "
        "(by zero)."
    )


def test_a_missing_package_names_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in [x for x in sys.modules if x.startswith("pipeline.nets.opening")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    message = refusal(folder)
    assert message == (
        "MODEL: a model needs safetensors.torch, which is not installed: "
        "`pip install 'tilewright[nets]'`."
    )


def test_a_foreign_file_needs_a_card(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"x")
    with pytest.raises(ModelError) as caught:
        read_card(path)
    assert str(caught.value) == (
        f"{path}: there is no card 'net.onnx.card.yaml', which says what goes in and out. "
        f"`tilewright model {path}` shows what to write."
    )
    write_card(tmp_path / "net.onnx.card.yaml", weights="other.onnx")
    with pytest.raises(ModelError, match=r"weights: 'other\.onnx', and it is the card of 'net\.on"):
        read_card(path)
