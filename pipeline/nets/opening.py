"""Opening weights of every kind as a module, and what is measured of one. Needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from pipeline.errors import ModelError
from pipeline.nets.architectures import build
from pipeline.nets.card import FOREIGN, ModelCard
from pipeline.nets.context import GlobalContext
from pipeline.nets.places import missing_extra
from pipeline.nets.reach import Reach
from pipeline.nets.torchscript import first_line
from pipeline.nets.weights import fill, read_tensors
from pipeline.nets.zoomed import zoomed_reach

#: Side of the window that a foreign module is tried on, before it is rounded to the stride.
_PROBE_PX = {2: 64, 3: 32}


def open_weights(
    kind: str,
    arguments: Mapping[str, Any],
    data: bytes,
    card: ModelCard,
    where: str,
    threads: int = 1,
) -> nn.Module:
    """A module of weights that were checked already, in eval mode.

    Parameters
    ----------
    kind : str
        An architecture of ours, "torchscript", "exported" or "onnx".
    arguments : dict
        Of an architecture of ours.
    data : bytes
        The weights.
    card : ModelCard
    where : str
        Their file, for messages.
    threads : int
        Of onnxruntime.
    """
    if kind == "torchscript":
        from pipeline.nets.torchscript import load_torchscript  # noqa: PLC0415

        return load_torchscript(data, where).eval()
    if kind == "exported":
        from pipeline.nets.exported import load_exported  # noqa: PLC0415

        return load_exported(data, where)
    if kind == "onnx":
        try:
            from pipeline.nets.onnx_graph import load_onnx  # noqa: PLC0415
        except ImportError as error:
            raise missing_extra(error, f"{where}: an ONNX file") from error
        return load_onnx(data, where, threads).eval()
    tensors = read_tensors(data, where)
    module = _built(kind, arguments, card)
    fill(module, tensors, where)
    return module.float().eval()


def skeleton(card: ModelCard) -> nn.Module:
    """A network of ours without numbers, on torch's "meta" device: for what follows from layers."""
    with torch.device("meta"):
        return _built(card.architecture, card.arguments, card).eval()


def context_of(module: nn.Module, card: ModelCard) -> GlobalContext:
    """The network of a model, with what it needs to know of whole frames."""
    return GlobalContext(module, len(card.channels), card.ndim, card.name)


def reach_of(network: GlobalContext, card: ModelCard, zoom: float = 1.0) -> Reach:
    """How far a model looks: from its layers, or from the card where they cannot be followed.

    What a card states is of the model without zoom.

    Raises
    ------
    ModelError
        If it cannot be told.
    """
    if card.architecture in FOREIGN and card.halo_px and card.stride_px:
        return zoomed_reach(Reach(card.stride_px, card.halo_px, card.halo_px), zoom)
    return network.reach


def probe(module: nn.Module, card: ModelCard, where: str) -> None:
    """Try a foreign module on one window.

    Raises
    ------
    ModelError
        If it does not run, gives other channels or sizes than the card says, or other numbers
        when it is asked again, as a program does that was exported while it was trained.
    """
    strides = card.stride_px or (1,) * card.ndim
    sides = [-(-_PROBE_PX[card.ndim] // stride) * stride for stride in strides]
    shape = (1, len(card.channels), *sides)
    window = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            first, second = module(window), module(window)
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from error
    except Exception as error:  # the program is not ours
        raise ModelError(
            f"{where}: it does not run on a window of shape {shape}: {first_line(error)}. Do "
            "`channels`, `ndim` and `stride_px` of the card belong to it?"
        ) from error
    wanted = (1, card.output_channels, *sides)
    if tuple(first.shape) != wanted:
        heads = ", ".join(f"{x.head} {x.channel_count(card.ndim)}" for x in card.heads)
        raise ModelError(
            f"{where}: a window of shape {shape} gives {tuple(first.shape)}, and the heads of the "
            f"card ({heads}) want {wanted}."
        )
    if not torch.equal(first, second):
        raise ModelError(
            f"{where}: the same window gives other numbers when asked again. Call `model.eval()` "
            "before exporting it."
        )


def measured(module: nn.Module, card: ModelCard) -> dict[str, Any]:
    """Facts of a module for its card: halo and stride; a detector's windows tell neither."""
    if card.is_detector:
        return {"halo_px": None, "stride_px": None}
    reach = context_of(module.eval(), card).reach
    return {"halo_px": tuple(reach.halo_px), "stride_px": tuple(reach.stride)}


def save_tensors(module: nn.Module, path: Path) -> None:
    """Write all weights as safetensors; tensors that share memory are written each."""
    tensors = {name: x.detach().cpu().clone() for name, x in module.state_dict().items()}
    # Not `save_file`, whose files nobody else on the machine can read.
    path.write_bytes(save({name: x.contiguous() for name, x in tensors.items()}))


def _built(name: str, arguments: Mapping[str, Any], card: ModelCard) -> nn.Module:
    try:
        return build(name, len(card.channels), card.network_classes, arguments)
    except ModelError:
        raise
    except ImportError as error:
        raise missing_extra(error, f"architecture {name!r}") from error
    except Exception as error:  # arguments come from a file, and constructors check little
        shown = ", ".join(f"{key}: {value!r}" for key, value in arguments.items())
        raise ModelError(
            f"{card.name}: architecture {name!r} cannot be built with the arguments {shown or '-'} "
            f"({first_line(error)})."
        ) from error
