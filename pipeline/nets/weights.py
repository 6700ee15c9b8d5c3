"""Reading weights: checked against their digest first, then as numbers only. Needs torch."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.names import nearest
from pipeline.nets.places import wrong_weights

#: Names, types and shapes of a hundred thousand tensors; no file of weights has more.
MAX_HEADER_BYTES = 25 * 2**20


def read_checked(path: Path, sha256: str) -> bytes:
    """The content of a file, whose digest is found before anything looks at it.

    What is parsed later is what was checked, also if the file changes in between.

    Raises
    ------
    ModelError
        If it cannot be read, or is not the file that the card was written for.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: the weights cannot be read ({error}).") from error
    check_sha256(data, sha256, str(path))
    return data


def check_sha256(data: bytes, sha256: str, where: str) -> None:
    """Raise ModelError if data is not what its digest says."""
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise wrong_weights(where, len(data), found, sha256)


def read_tensors(data: bytes, where: str) -> dict[str, Tensor]:
    """Tensors of a safetensors file by name.

    Raises
    ------
    ModelError
        If it is something else, such as a pickle, or its header does not fit the file.
    """
    length = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else 0
    if not 2 <= length <= min(MAX_HEADER_BYTES, len(data) - 8):
        if data[:2] == b"PK" or data[:1] == b"\x80":
            raise ModelError(
                f"{where}: a pickle of Python objects under the name of safetensors; opening it "
                "could run any code. Write it with `safetensors.torch.save_file` where the model "
                "is known."
            )
        raise ModelError(
            f"{where}: no safetensors file: its header would have {length:,} bytes, of a file of "
            f"{len(data):,}; {MAX_HEADER_BYTES:,} are read at most."
        )
    try:
        return load_tensors(data)
    except (SafetensorError, ValueError, KeyError, RecursionError) as error:
        raise ModelError(f"{where}: a damaged safetensors file ({error}).") from error


def fill(module: nn.Module, tensors: dict[str, Tensor], where: str) -> None:
    """Put weights into a module of the same names and shapes.

    Raises
    ------
    ModelError
        Naming what is missing, what is too much, what has another shape or is no number.
    """
    wanted = module.state_dict()
    remedy = "Do `architecture`, `arguments`, `channels` and `heads` of the card belong to them?"
    if missing := [name for name in wanted if name not in tensors]:
        near = nearest(missing[0], tensors)
        raise ModelError(f"{where}: weights are missing: {_some(missing)}{near}. {remedy}")
    if unknown := [name for name in tensors if name not in wanted]:
        near = nearest(unknown[0], wanted)
        raise ModelError(f"{where}: weights have no place: {_some(unknown)}{near}. {remedy}")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            raise ModelError(
                f"{where}: {name} has the shape {tuple(tensor.shape)}, and the network wants "
                f"{tuple(wanted[name].shape)}. {remedy}"
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{where}: {name} holds NaN or infinity. Train the model anew.")
    module.load_state_dict(tensors)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
