"""Exported programs (.pt2), written by `torch.export.save`. Needs torch.

What loading runs, and what not
-------------------------------
`torch.export.load` trusts its file: it unpickles (sample inputs, and weights that say so),
evaluates expressions of shapes with sympy's parser, which is Python's `eval`, and compiles
guards and names of the graph into Python. So the archive is read here first and written anew,
with only what was checked:

* the graph: operators of torch that compute (`aten`) and arithmetic of sizes; every other
  text is a plain name, and an expression is a sum, product or quotient of symbols and numbers;
* weights and constants as raw numbers; nothing pickled;
* no guards, no sample inputs, no traces of where the code came from.

What is left can compute.
"""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.nets.archive import read_archive, refuse, write_archive
from pipeline.nets.torchscript import FORBIDDEN, first_line, only_tensor

_REMEDY = "Such a program is not opened; export the model as ONNX, or write a model folder."
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_KEPT = re.compile(
    r"models/model\.json|data/weights/weight_\d+|data/constants/tensor_\d+|archive_format"
    r"|archive_version|byteorder|\.data/version"
)
#: Parts of the graph that only say where it came from, or that would be compiled.
_DROPPED: dict[str, Any] = {"guards_code": [], "metadata": {}, "treespec_namedtuple_fields": {}}
_OPERATOR = re.compile(
    r"torch\.ops\.aten\.(?P<name>\w+)\.\w+|torch\.sym_(max|min|not|int|float|sum)"
    r"|_operator\.(add|sub|mul|neg|floordiv|truediv|mod|pow|eq|ne|lt|le|gt|ge|getitem)"
    r"|math\.(ceil|floor|trunc)"
)
_NAME = re.compile(r"[A-Za-z0-9_.]*")
#: Texts that no code is made of: arguments such as einsum's, and the version of torch.
_TEXT = re.compile(r"[A-Za-z0-9_.,:>+ -]*")
_TEXT_KEYS = {"as_string", "torch_version"}
_FUNCTIONS = {
    *("Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Max", "Min", "Mod", "Abs"),
    *("PythonMod", "FloorDiv", "CleanDiv", "CeilDiv", "CeilToInt", "FloorToInt", "IntTrueDiv"),
    *("FloatTrueDiv", "ToFloat", "TruncToInt", "PowByNatural", "floor", "ceiling", "Where"),
    *("Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not"),
    *("Equality", "Unequality", "StrictLessThan", "LessThan", "StrictGreaterThan", "GreaterThan"),
}


class Exported(nn.Module):
    """An exported program as a module."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program
        self.training = False

    def train(self, mode: bool = True) -> Exported:
        """Do nothing: what a program does in training was decided when it was exported."""
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape (N, K, \\*S) of pixels of shape (N, C, \\*S)."""
        return only_tensor(self.program(x))


def load_exported(data: bytes, where: str) -> nn.Module:
    """Open an exported program, see above what runs.

    Raises
    ------
    ModelError
        If it is no such archive, is damaged, or holds more than a graph and numbers.
    """
    files = read_archive(data, where)
    if "models/model.json" not in files:
        raise ModelError(
            f"{where}: no program that `torch.export.save` wrote (models/model.json is missing)."
        )
    kept = {name: held for name, held in files.items() if _KEPT.fullmatch(name)}
    try:
        graph = json.loads(files["models/model.json"])
        configs = {name: json.loads(files[name]) for name in _CONFIGS}
    except (KeyError, ValueError, RecursionError) as error:
        raise ModelError(f"{where}: a damaged archive ({error}).") from error
    for name, config in configs.items():
        _check_numbers(config, f"{where}: {name}")
        kept[name] = json.dumps(config).encode()
    graph = without_traces(graph)
    check_graph(graph, where)
    kept["models/model.json"] = json.dumps(graph).encode()
    kept["data/sample_inputs/model.pt"] = _empty_inputs()
    try:
        program = torch.export.load(write_archive(kept)).module(check_guards=False)
    except Exception as error:  # whatever its readers stumble over, the file is damaged
        raise ModelError(
            f"{where}: torch {torch.__version__} cannot open the program ({first_line(error)}). "
            "Export it with this version of torch."
        ) from error
    return Exported(program.float())


def without_traces(content: Any) -> Any:
    """A copy of the graph without `_DROPPED`."""
    if isinstance(content, dict):
        return {
            key: _DROPPED[key] if key in _DROPPED else without_traces(value)
            for key, value in content.items()
        }
    return [without_traces(x) for x in content] if isinstance(content, list) else content


def check_graph(graph: Any, where: str) -> None:
    """Raise ModelError if a text in the graph could become code, or an operator does more."""
    operators, expressions, texts = set(), set(), set()
    for key, text in _texts(graph, ""):
        if key == "target":
            found = _OPERATOR.fullmatch(text)
            if found is None or found["name"] in FORBIDDEN:
                operators.add(text)
        elif key == "expr_str":
            if not is_arithmetic(text):
                expressions.add(repr(text))
        elif key in {"in_spec", "out_spec"}:
            if not _is_plain_tree(text):
                texts.add(repr(text))
        elif not (_TEXT if key in _TEXT_KEYS else _NAME).fullmatch(text):
            texts.add(repr(text))
    refuse("operators that are not read", operators, where, _REMEDY)
    refuse("expressions of sizes that are not read", expressions, where, _REMEDY)
    refuse("texts that are no names", texts, where, _REMEDY)


def is_arithmetic(text: str) -> bool:
    """Whether an expression is made of symbols, whole numbers and known functions only."""
    try:
        return _is_known(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _is_known(node: ast.expr) -> bool:
    match node:
        case ast.Constant(value=bool() | int() | float()):
            return True
        case ast.Constant(value=str(value)):
            return re.fullmatch(r"[A-Za-z0-9_.-]*", value) is not None
        case ast.Name(id=name):
            return re.fullmatch(r"[su]\d+|true|false|oo|int_oo", name) is not None
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _is_known(operand)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
            values = [*args, *(word.value for word in keywords)]
            return name in _FUNCTIONS and all(_is_known(value) for value in values)
    return False


def _texts(content: Any, key: str) -> Iterator[tuple[str, str]]:
    """All texts with the key that they stand under, and all keys."""
    if isinstance(content, str):
        yield key, content
    elif isinstance(content, list):
        for item in content:
            yield from _texts(item, key)
    elif isinstance(content, dict):
        for name, value in content.items():
            yield "", name
            yield from _texts(value, name)


def _is_plain_tree(text: str) -> bool:
    """Whether the description of inputs or outputs is of tuples, lists and dicts only."""
    try:
        content = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return False
    allowed = {"builtins.tuple", "builtins.list", "builtins.dict", "null", "[]"}
    return all(
        value in allowed or value in {"type", "context", "children_spec"}
        for _, value in _texts(content, "")
    )


def _check_numbers(config: Any, where: str) -> None:
    """Raise ModelError if a tensor is not stored as raw numbers in a file of its own."""
    try:
        entries = config["config"]
        pickled = [
            name
            for name, entry in entries.items()
            if entry["use_pickle"] is not False
            or not re.fullmatch(r"(weight|tensor)_\d+", entry["path_name"])
        ]
    except (TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{where}: a damaged archive ({error!r}).") from error
    refuse("tensors that are pickled", pickled, where, _REMEDY)


def _empty_inputs() -> bytes:
    buffer = io.BytesIO()
    torch.save(((), {}), buffer)
    return buffer.getvalue()
