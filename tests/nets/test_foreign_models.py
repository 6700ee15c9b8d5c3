"""Models of other programs: the same numbers as the module they were made of, and nothing run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from model_files import (
    CLASSES,
    card_content,
    export,
    exported,
    foreign_card,
    plain,
    window,
    write_card,
)
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.nets.model_folder import load_module, model_digest

FILES = ["net.pt", "net.pt2", "net.onnx"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file of each format, of the same network."""
    folder = tmp_path_factory.mktemp("made")
    for name in FILES:
        (folder / name).write_bytes(exported(Path(name).suffix))
    return folder


def taken(made: Path, tmp_path: Path, name: str) -> Path:
    """A copy of a file, with a card."""
    path = tmp_path / name
    path.write_bytes((made / name).read_bytes())
    foreign_card(path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_module(path)
    return str(caught.value).replace(str(path), "MODEL").replace(str(path.parent), "FOLDER")


# ---- the same numbers ----


@pytest.mark.parametrize("name", FILES)
def test_a_foreign_file_gives_what_its_module_gave(made: Path, tmp_path: Path, name: str) -> None:
    path = taken(made, tmp_path, name)
    module = load_module(path)
    assert isinstance(module, nn.Module)
    assert not module.training
    with torch.no_grad():
        for side in (32, 50):
            found, wanted = module(window(side=side)), plain()(window(side=side))
            assert found.dtype == torch.float32
            if name == "net.onnx":  # onnxruntime adds in another order
                assert (found - wanted).abs().max() < 1e-5
            else:
                assert torch.equal(found, wanted)
        # However often it is asked.
        first = module(window())
        assert all(torch.equal(module(window()), first) for _ in range(4))


@pytest.mark.parametrize("name", FILES)
def test_a_foreign_file_may_lie_in_a_folder(made: Path, tmp_path: Path, name: str) -> None:
    kinds = {"net.pt": "torchscript", "net.pt2": "exported", "net.onnx": "onnx"}
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / name).write_bytes((made / name).read_bytes())
    content = card_content(architecture=kinds[name], arguments=None, sha256=None, weights=name)
    write_card(folder / "card.yaml", **content, halo_px=[8, 8], stride_px=[2, 2])
    with torch.no_grad():
        found = load_module(folder)(window())
    assert (found - plain()(window())).abs().max() < 1e-5
    before = model_digest(folder)
    (folder / name).write_bytes((folder / name).read_bytes() + b"\0")
    assert model_digest(folder) != before


class Sized(nn.Module):
    """Layers whose programs hold sizes of the input, and newer operators."""

    def __init__(self, ndim: int) -> None:
        super().__init__()
        self.ndim = ndim
        conv = nn.Conv2d if ndim == 2 else nn.Conv3d
        self.down = conv(1, 8, 3, padding=1, stride=2)
        self.norm = nn.GroupNorm(2, 8)
        self.last = conv(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        mode = "bilinear" if self.ndim == 2 else "trilinear"
        low = self.last(torch.nn.functional.gelu(self.norm(self.down(x))))
        return torch.nn.functional.interpolate(low, size=x.shape[2:], mode=mode)


@pytest.mark.parametrize("ndim", [2, 3])
def test_programs_hold_sizes(tmp_path: Path, ndim: int) -> None:
    torch.manual_seed(0)
    module = Sized(ndim).eval()
    example = torch.rand(2, 1, *(16,) * ndim)
    sizes = {axis: torch.export.Dim.AUTO for axis in (0, *range(2, 2 + ndim))}
    torch.jit.script(module).save(str(tmp_path / "net.pt"))
    program = torch.export.export(module, (example,), dynamic_shapes=(sizes,))
    torch.export.save(program, tmp_path / "net.pt2")
    x = torch.rand(1, 1, *(20, 28, 24)[:ndim])
    for name in ("net.pt", "net.pt2"):
        foreign_card(tmp_path / name, ndim=ndim)
        with torch.no_grad():
            assert torch.equal(load_module(tmp_path / name)(x), module(x))


def test_a_traced_module_is_torchscript_too(tmp_path: Path) -> None:
    torch.jit.trace(plain(), torch.rand(1, 1, 32, 32)).save(str(tmp_path / "net.pt"))
    foreign_card(tmp_path / "net.pt")
    with torch.no_grad():
        assert torch.equal(load_module(tmp_path / "net.pt")(window()), plain()(window()))


def test_a_module_may_return_its_tensor_in_a_tuple(tmp_path: Path) -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = plain()

        def forward(self, x: Tensor) -> tuple[Tensor]:
            return (self.net(x),)

    export(Wrapped().eval(), tmp_path / "net.pt2")
    foreign_card(tmp_path / "net.pt2")
    with torch.no_grad():
        assert torch.equal(load_module(tmp_path / "net.pt2")(window()), plain()(window()))


# ---- what does not belong together ----


@pytest.mark.parametrize("name", FILES)
def test_a_card_of_other_channels_is_found(made: Path, tmp_path: Path, name: str) -> None:
    path = taken(made, tmp_path, name)
    foreign_card(path, heads=[CLASSES, {"head": "distance"}])
    assert refusal(path) == (
        "MODEL: a window of shape (1, 1, 64, 64) gives (1, 3, 64, 64), and the heads of the card "
        "(classes 3, distance 1) want (1, 4, 64, 64)."
    )
    foreign_card(path, channels=["dna", "actin"])
    assert re.match(
        r"MODEL: it does not run on a window of shape \(1, 2, 64, 64\): .+\. Do `channels`, `ndim` "
        r"and `stride_px` of the card belong to it\?$",
        refusal(path),
    )


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_found(made: Path, tmp_path: Path, name: str) -> None:
    path = taken(made, tmp_path, name)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert refusal(path).startswith("MODEL: the weights are damaged, or those of another model: ")
    # Damaged when the card was written.
    for data in (whole[: len(whole) // 2], b"", b"junk" * 100):
        path.write_bytes(data)
        foreign_card(path)
        assert re.match(
            r"MODEL: (not a zip archive, which torch writes, or damaged|onnxruntime cannot open it)"
            if data or name != "net.onnx"
            else "MODEL: ",
            refusal(path),
        )


def test_a_module_in_training_is_found(tmp_path: Path) -> None:
    class Drops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = plain()

        def forward(self, x: Tensor) -> Tensor:
            return torch.nn.functional.dropout(self.net(x), 0.5, True)

    for name in ("net.pt", "net.pt2"):
        export(Drops(), tmp_path / name)
        foreign_card(tmp_path / name)
        assert refusal(tmp_path / name) == (
            "MODEL: the same window gives other numbers when asked again. Call `model.eval()` "
            "before exporting it."
        )


def test_two_outputs_are_not_read(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = plain()

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.net(x), x

    for name in FILES:
        export(Two().eval(), tmp_path / name)
        foreign_card(tmp_path / name)
        assert re.match(
            r"MODEL: 2 outputs \(.*\); one is read\."
            if name == "net.onnx"
            else "MODEL: the network returns tuple, and one tensor is read. Export it with one",
            refusal(tmp_path / name),
        )
