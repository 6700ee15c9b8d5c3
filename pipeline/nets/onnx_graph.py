"""ONNX files, evaluated by onnxruntime. Needs torch and onnxruntime.

An ONNX file is a graph of operators that onnxruntime knows; it holds no code. Weights in files
beside it are not read: the digest of the file would not cover them.
"""

from __future__ import annotations

from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.nets.torchscript import first_line


class OnnxGraph(nn.Module):
    """An ONNX graph as a module; torch cannot trace it."""

    def __init__(self, session: Any) -> None:
        super().__init__()
        self.session = session
        self.input_name = session.get_inputs()[0].name

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape (N, K, \\*S) of pixels of shape (N, C, \\*S), float32."""
        found = self.session.run(None, {self.input_name: x.detach().contiguous().numpy()})
        return torch.from_numpy(found[0]).float()


def load_onnx(data: bytes, where: str, threads: int = 1) -> nn.Module:
    """Open an ONNX graph.

    Parameters
    ----------
    data : bytes
    where : str
        The file, for messages.
    threads : int
        Of one pass. The order of additions, and so the last bits, may change with it.

    Raises
    ------
    ModelError
        If it is no ONNX file, has weights elsewhere, operators that onnxruntime does not know,
        several inputs or outputs, other pixels than float32, or sizes that are fixed.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 4
    # Without it, paths of weights would be taken from the working folder.
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", "/nonexistent"
    )
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base
        if "xternal data" in str(error):
            raise ModelError(
                f"{where}: weights in other files, which its sha256 would not cover. Save the "
                "model as one file: `onnx.save(onnx.load(path), one_file)`."
            ) from error
        raise ModelError(f"{where}: onnxruntime cannot open it ({first_line(error)}).") from error
    _check_ports(session, where)
    return OnnxGraph(session)


def _check_ports(session: Any, where: str) -> None:
    """Raise ModelError if the graph does not take one image of any size and give one."""
    for ports, what in ((session.get_inputs(), "inputs"), (session.get_outputs(), "outputs")):
        if len(ports) != 1:
            names = ", ".join(port.name for port in ports)
            raise ModelError(f"{where}: {len(ports)} {what} ({names}); one is read.")
        if ports[0].type != "tensor(float)":
            raise ModelError(f"{where}: {what} of type {ports[0].type}; float32 is read.")
    batch, _, *sides = session.get_inputs()[0].shape
    if batch not in (1, None) and isinstance(batch, int):
        raise ModelError(f"{where}: windows come one by one, and it takes {batch} at once.")
    if any(isinstance(side, int) for side in sides):
        raise ModelError(
            f"{where}: it takes windows of {sides} px only. Export it with sizes that may change "
            "(`dynamic_shapes`)."
        )
