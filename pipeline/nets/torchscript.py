"""TorchScript files: programs of torch's own small language. Needs torch.

What loading runs, and what not
-------------------------------
`torch.jit.load` reads the file's pickles with an unpickler of its own in C++, which knows torch's
types and can call nothing else, and compiles the program in the file. That program may run
while it is loaded (`__setstate__`) and runs with every window. It is no Python and cannot import,
but two operators of the language touch files, `save` and `from_file`. So before torch sees the
file, programs with such operators, or with operators of other libraries, are refused, and so are
pickles with foreign names. What is left can compute, and loop for ever.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import warnings

import torch
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.nets.archive import pickled_globals, read_archive, refuse, write_archive

#: Operators that read or write files.
FORBIDDEN = frozenset({"save", "from_file"})
#: Libraries of operators that a program may name as `ops.<library>`.
LIBRARIES = frozenset({"aten", "prim"})
#: Names that torch writes into the pickles of a program.
_PICKLED = re.compile(
    r"__torch__\S* \S+|torch\._utils _rebuild_\w+|torch \w+Storage|torch\.jit\._pickle \w+"
    r"|collections OrderedDict|torch (device|Size)"
)
_REMEDY = "Such a program is not opened; export the model as ONNX, or write a model folder."


class TorchScript(nn.Module):
    """A TorchScript program as a module.

    It runs without torch's optimiser, which rewrites a program after its first runs, so that
    equal windows would not give equal bits.
    """

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape (N, K, \\*S) of pixels of shape (N, C, \\*S)."""
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            return only_tensor(self.program(x))


def only_tensor(output: object) -> Tensor:
    """The tensor that a program returns, or that stands alone in its tuple."""
    if isinstance(output, (tuple, list)) and len(output) == 1:
        output = output[0]
    if not isinstance(output, Tensor):
        raise ModelError(
            f"the network returns {type(output).__name__}, and one tensor is read. "
            "Export it with one output."
        )
    return output


def load_torchscript(data: bytes, where: str) -> nn.Module:
    """Open a TorchScript program, see above what runs.

    Raises
    ------
    ModelError
        If it is no TorchScript archive, is damaged, or does more than compute.
    """
    files = read_archive(data, where)
    programs = {name: held for name, held in files.items() if re.fullmatch(r"code/.*\.py", name)}
    if not programs:
        raise ModelError(
            f"{where}: holds pickled Python objects and no TorchScript program; opening it could "
            "run any code. Write `torch.jit.script(model).save(...)` where the model is known."
        )
    for name, program in programs.items():
        check_program(program, f"{where}: {name}")
    pickles = {name: held for name, held in files.items() if name in {"data.pkl", "constants.pkl"}}
    for name, pickle in pickles.items():
        names = {x for x in pickled_globals(pickle, where) if not _PICKLED.fullmatch(x)}
        refuse(f"{name} names what is no part of a program", names, where, _REMEDY)
    kept = {
        name: held
        for name, held in files.items()
        if name in programs
        or name in pickles
        or name in {"version", ".data/version", "byteorder"}
        or re.fullmatch(r"(data|constants)/\d+", name)
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch prefers exported programs
            module: nn.Module = torch.jit.load(  # type: ignore[no-untyped-call]
                write_archive(kept), map_location="cpu"
            )
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{where}: not a TorchScript program ({first_line(error)}).") from error
    return TorchScript(module.eval().float())


def check_program(program: bytes, where: str) -> None:
    """Raise ModelError if a program names an operator that touches files, or a foreign one."""
    found: set[str] = set()
    try:
        tokens = [
            token
            for token in tokenize.tokenize(io.BytesIO(program).readline)
            if token.type in {tokenize.NAME, tokenize.OP, tokenize.STRING}
        ]
        for i, token in enumerate(tokens):
            after = [other.string for other in tokens[i + 1 : i + 3]]
            if token.type == tokenize.NAME and token.string in FORBIDDEN:
                found.add(token.string)
            if token.type == tokenize.STRING and ast.literal_eval(token.string) in FORBIDDEN:
                found.add(token.string)  # getattr(x, "save")
            if token.string == "ops" and after[:1] == ["."] and after[1] not in LIBRARIES:
                found.add(f"ops.{after[1]}")
    except (tokenize.TokenError, SyntaxError, ValueError, IndexError) as error:
        raise ModelError(f"{where}: not a TorchScript program ({error}).") from error
    refuse("the program calls", found, where, _REMEDY)


def first_line(error: Exception) -> str:
    """What torch says, without the lines about where in its own code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
