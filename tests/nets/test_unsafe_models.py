"""Files that would run code or read other files when they are opened: they are refused."""

from __future__ import annotations

import io
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from model_files import (
    exported,
    foreign_card,
    plain,
    window,
)
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.nets.exported import is_arithmetic
from pipeline.nets.model_folder import load_module
from pipeline.nets.torchscript import check_program

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


class Harm:
    """A pickle that makes a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def rewritten(path: Path, change: Callable[[str, bytes], bytes | None], **added: bytes) -> Path:
    """Change files of a torch archive (None removes one), and write its card."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    root = next(iter(files)).split("/")[0]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            if (found := change(name.removeprefix(f"{root}/"), data)) is not None:
                archive.writestr(name, found)
        for name, data in added.items():
            archive.writestr(f"{root}/{name.replace('__', '/')}", data)
    foreign_card(path)
    return path


def test_a_pickle_is_no_torchscript(tmp_path: Path) -> None:
    harm = tmp_path / "harm"
    path = tmp_path / "net.pt"
    for content in (plain(), plain().state_dict(), Harm(harm)):
        torch.save(content, path)
        foreign_card(path)
        assert refusal(path) == (
            "MODEL: holds pickled Python objects and no TorchScript program; opening it could run "
            "any code. Write `torch.jit.script(model).save(...)` where the model is known."
        )
    path.write_bytes(pickle.dumps(Harm(harm)))
    foreign_card(path)
    assert refusal(path).startswith("MODEL: not a zip archive, which torch writes, or damaged (")
    assert not harm.exists()


def test_foreign_names_in_pickles_of_a_program_are_refused(made: Path, tmp_path: Path) -> None:
    harm = tmp_path / "harm"
    for file, protocol in (("data.pkl", 2), ("constants.pkl", 2), ("data.pkl", 4)):
        path = taken(made, tmp_path, "net.pt")
        bad = pickle.dumps(Harm(harm), protocol)
        rewritten(path, lambda name, data, bad=bad, file=file: bad if name == file else data)
        assert re.match(
            rf"MODEL: {file} names what is no part of a program: .*pathlib Path"
            if protocol == 2
            else "MODEL: its pickle holds STACK_GLOBAL, which torch never writes",
            refusal(path),
        )
    assert not harm.exists()


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("torch.save(x, 'harm')", "save"),
        ("torch.from_file('harm', True, 8)", "from_file"),
        ("(x).save('harm')", "save"),
        ("ops.aten.save(x, 'harm')", "save"),
        ("getattr(torch, 's\\x61ve')(x, 'harm')", "'s\\x61ve'"),
        ("ops.debugprims.load_tensor('harm', [1], [1])", "ops.debugprims"),
    ],
)
def test_programs_that_touch_files_are_refused(line: str, name: str) -> None:
    program = f"def forward(self, x: Tensor) -> Tensor:\n  y = {line}\n  return x\n"
    with pytest.raises(ModelError) as caught:
        check_program(program.encode(), "net.pt: code/a.py")
    assert str(caught.value).startswith(f"net.pt: code/a.py: the program calls: {name}. Such a pro")


def test_torchscript_that_writes_a_file_is_not_opened(tmp_path: Path) -> None:
    class Writes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            torch.save(x, "harm")
            return x

    path = tmp_path / "net.pt"
    torch.jit.script(Writes()).save(str(path))
    foreign_card(path)
    assert "the program calls: save. Such a program is not opened" in refusal(path)


def test_a_zip_bomb_is_not_blown_up(made: Path, tmp_path: Path) -> None:
    path = taken(made, tmp_path, "net.pt")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data/99", bytes(8 * 2**20))
    foreign_card(path)
    assert re.search(
        r"net/data/99 would grow from .* to 8,388,608 bytes.*a zip bomb", refusal(path)
    )


def test_a_file_that_an_archive_holds_twice_is_refused(made: Path, tmp_path: Path) -> None:
    path = taken(made, tmp_path, "net.pt")
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("net/data.pkl", b"x")
    foreign_card(path)
    assert refusal(path) == "MODEL: the archive holds a file twice. Export the model anew."


GRAPH = "models/model.json"
HARM = "__import__('pathlib').Path('harm').touch()"


def changed_graph(path: Path, change: Callable[[dict[str, Any]], None]) -> str:
    """Change the graph of an exported program; what loading then says."""

    def one(name: str, data: bytes) -> bytes:
        if name != GRAPH:
            return data
        graph = json.loads(data)
        change(graph)
        return json.dumps(graph).encode()

    return refusal(rewritten(path, one))


def test_torch_itself_would_run_code_of_an_exported_program(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why `torch.export.load` never sees a file as it is; if this fails, torch was mended."""
    monkeypatch.chdir(tmp_path)
    path = taken(made, tmp_path, "net.pt2")
    buffer = io.BytesIO()
    torch.save(Harm(tmp_path / "harm"), buffer)
    bad = buffer.getvalue()
    rewritten(path, lambda name, data: bad if name == "data/sample_inputs/model.pt" else data)
    with suppress(Exception):
        torch.export.load(path)
    assert (tmp_path / "harm").exists()
    (tmp_path / "harm").unlink()
    with torch.no_grad():  # sample inputs are not looked at
        assert torch.equal(load_module(path)(window()), plain()(window()))
    assert not (tmp_path / "harm").exists()


def test_code_in_an_exported_program_is_refused(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = taken(made, tmp_path, "net.pt2")

    def node(graph: dict[str, Any]) -> dict[str, Any]:
        return graph["graph_module"]["graph"]["nodes"][0]

    def size(graph: dict[str, Any]) -> None:
        values = graph["graph_module"]["graph"]["tensor_values"]
        values["x"]["sizes"][2] = {"as_expr": {"expr_str": HARM, "hint": None}}

    def named(graph: dict[str, Any]) -> None:
        node(graph)["outputs"][0]["as_tensor"]["name"] = f"a=({HARM})"

    def operator(name: str) -> Callable[[dict[str, Any]], None]:
        return lambda graph: node(graph).update(target=name)

    def tree(graph: dict[str, Any]) -> None:
        call = graph["graph_module"]["module_call_graph"][0]["signature"]
        call["in_spec"] = '[1, {"type": "collections.defaultdict", "context": "os.system"}]'

    remedy = "Such a program is not opened; export the model as ONNX, or write a model folder."
    assert changed_graph(path, size) == (
        f'MODEL: expressions of sizes that are not read: "{HARM}". {remedy}'
    )
    path = taken(made, tmp_path, "net.pt2")
    assert changed_graph(path, named) == (f'MODEL: texts that are no names: "a=({HARM})". {remedy}')
    path = taken(made, tmp_path, "net.pt2")
    assert 'texts that are no names: \'[1, {"type": "coll' in changed_graph(path, tree)
    for name in (
        "torch.hub.load",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.save.default",
        "torch.ops.higher_order.cond",
        "_operator.methodcaller",
        "torch.load",
    ):
        path = taken(made, tmp_path, "net.pt2")
        assert changed_graph(path, operator(name)) == (
            f"MODEL: operators that are not read: {name}. {remedy}"
        )
    assert not (tmp_path / "harm").exists()


def test_guards_of_an_exported_program_are_not_compiled(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = taken(made, tmp_path, "net.pt2")

    def guards(name: str, data: bytes) -> bytes:
        if name != GRAPH:
            return data
        return json.dumps({**json.loads(data), "guards_code": [f"{HARM} is None"]}).encode()

    rewritten(path, guards)
    # torch itself would run it.
    torch.export.load(path).module()(window())
    assert (tmp_path / "harm").exists()
    (tmp_path / "harm").unlink()
    load_module(path)(window())
    assert not (tmp_path / "harm").exists()


def test_pickled_tensors_of_an_exported_program_are_refused(made: Path, tmp_path: Path) -> None:
    path = taken(made, tmp_path, "net.pt2")

    def pickled(name: str, data: bytes) -> bytes:
        if name != "data/weights/model_weights_config.json":
            return data
        config = json.loads(data)
        first = next(iter(config["config"]))
        config["config"][first]["use_pickle"] = True
        return json.dumps(config).encode()

    rewritten(path, pickled)
    assert re.match(
        r"MODEL: data/weights/model_weights_config\.json: tensors that are pickled: first\.weight",
        refusal(path),
    )
    path = taken(made, tmp_path, "net.pt2")
    rewritten(path, lambda name, data: None if name == GRAPH else data)
    assert refusal(path) == (
        "MODEL: no program that `torch.export.save` wrote (models/model.json is missing)."
    )


def test_an_archive_of_more_is_read_without_it(made: Path, tmp_path: Path) -> None:
    path = taken(made, tmp_path, "net.pt2")
    bad = pickle.dumps(Harm(tmp_path / "harm"))
    # Old names, which torch would unpickle.
    added = {"data__weights__model.pt": bad, "data__constants__model.pt": bad}
    rewritten(path, lambda name, data: data, **added)
    with torch.no_grad():
        assert torch.equal(load_module(path)(window()), plain()(window()))
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("Symbol('s77', positive=True, integer=True)", True),
        ("Add(Mul(Integer(2), FloorDiv(Symbol('s53'), Integer(2))), Integer(-1))", True),
        ("Mul(Integer(2), s77)", True),
        ("open('x')", False),
        ("Symbol('a').__class__", False),
        ("Symbol('__import__(1)')", False),
        ("[x for x in (1,)]", False),
        ("lambda: 1", False),
        ("Symbol(*'a')", False),
        ("eval", False),
        ("(" * 1000, False),
    ],
)
def test_expressions_are_arithmetic(text: str, known: bool) -> None:
    assert is_arithmetic(text) is known


def test_onnx_reads_no_file_beside_it(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = taken(made, tmp_path, "net.onnx")
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    foreign_card(path)
    assert (tmp_path / "weights.bin").exists()
    wanted = (
        "MODEL: weights in other files, which its sha256 would not cover. Save the model as one "
        "file: `onnx.save(onnx.load(path), one_file)`."
    )
    assert refusal(path) == wanted
    for where in (str(tmp_path / "weights.bin"), "../weights.bin"):
        model = onnx.load(path, load_external_data=False)
        for tensor in model.graph.initializer:
            for item in tensor.external_data:
                if item.key == "location":
                    item.value = where
        path.write_bytes(model.SerializeToString())
        foreign_card(path)
        assert refusal(path) == wanted


def test_an_onnx_file_of_one_size_or_type_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"

    def saved(type_: int, shape: list[Any]) -> str:
        ports = [onnx.helper.make_tensor_value_info(name, type_, shape) for name in "xy"]
        node = onnx.helper.make_node("Identity", ["x"], ["y"])
        graph = onnx.helper.make_graph([node], "g", ports[:1], ports[1:])
        opset = [onnx.helper.make_opsetid("", 17)]
        onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), path)
        foreign_card(path)
        return refusal(path)

    assert saved(onnx.TensorProto.FLOAT, ["n", 1, 64, 64]) == (
        "MODEL: it takes windows of [64, 64] px only. Export it with sizes that may change "
        "(`dynamic_shapes`)."
    )
    assert saved(onnx.TensorProto.FLOAT, [4, 1, "h", "w"]) == (
        "MODEL: windows come one by one, and it takes 4 at once."
    )
    assert saved(onnx.TensorProto.UINT8, ["n", 1, "h", "w"]) == (
        "MODEL: inputs of type tensor(uint8); float32 is read."
    )
