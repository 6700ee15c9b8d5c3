"""The GPUs of this machine, found without loading CUDA, and the workers that they get.

A process that has loaded CUDA must not be forked, and torch takes 2 s to import: the driver is
asked by NVML where `nvidia-ml-py` is installed, else by `nvidia-smi`.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module

log = logging.getLogger(__name__)

#: Names the GPUs to use, such as ``0,1`` or their UUIDs; empty or ``none`` for none. It is
#: believed: a GPU that is not there is a worker that computes on its CPU, as tests want it.
GPUS_VARIABLE = "TILEWRIGHT_GPUS"

#: Orders that share a GPU: one reads and writes while the other computes.
ORDERS_PER_GPU = 2

#: A driver that hangs must not hang the command.
ASK_SECONDS = 10.0


def gpus(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Names of the GPUs that this command may use, as CUDA_VISIBLE_DEVICES takes them.

    `GPUS_VARIABLE` decides if it is set. Else CUDA_VISIBLE_DEVICES, as schedulers set it, chooses
    from what the driver knows.
    """
    named = environment.get(GPUS_VARIABLE)
    if named is not None:
        return () if named.strip().lower() == "none" else _names(named)
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    allowed = None if visible is None else _names(visible)
    if allowed == ():
        return ()
    found = _ask_nvml() or _ask_smi()
    return found if allowed is None or not found else allowed


def gpu_environment(gpu: str) -> dict[str, str]:
    """What a worker process of this GPU has in its environment."""
    return {
        "CUDA_VISIBLE_DEVICES": gpu,
        # Numbers as nvidia-smi has them; CUDA's own begin with the fastest GPU.
        "CUDA_DEVICE_ORDER": os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID"),
    }


def _names(text: str) -> tuple[str, ...]:
    """Names of a list; as in CUDA, an invalid one ends it."""
    found: list[str] = []
    for name in (part.strip() for part in text.split(",")):
        if not name or name.startswith("-") or name.lower() in ("none", "void", "nodevfiles"):
            break
        found.append(name)
    return tuple(dict.fromkeys(found))


def _ask_nvml() -> tuple[str, ...]:
    """UUIDs by the driver's library; none where it, or its Python module, is missing."""
    try:
        pynvml = import_module("pynvml")
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
        try:
            handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
            return tuple(_text(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles)
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        log.debug("NVML knows of no GPU: %s", error)
        return ()


def _ask_smi() -> tuple[str, ...]:
    """UUIDs by the driver's command."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return ()
    with suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.run(
            [command, "--query-gpu=uuid", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=ASK_SECONDS,
            check=True,
        )
        return tuple(line.strip() for line in answer.stdout.splitlines() if line.strip())
    return ()


def _text(value: str | bytes) -> str:
    """Text of what older versions of NVML's module give as bytes."""
    return value.decode() if isinstance(value, bytes) else value
