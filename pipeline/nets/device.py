"""The device of this process: which it is, and how networks compute on it.

Who may use a GPU is said from outside, by whoever sends the work: a GPU that merely exists is not
taken, for eight CPU workers must not share it. Torch is imported when it is needed, so that
workers may import this module without it.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal, TypeAlias

from pipeline.errors import TilewrightError

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

Precision: TypeAlias = Literal["float32", "tf32", "bf16", "fp16"]

#: Held by the thread that computes on a GPU. The orders of one process share its memory and its
#: settings; one reads or writes while the other computes.
GPU_LOCK = threading.RLock()

_allowed: ContextVar[bool] = ContextVar("gpu_allowed", default=False)


@contextmanager
def gpu_allowed(allowed: bool = True) -> Iterator[None]:
    """Let what runs inside take the GPU of this process, if it has one.

    It holds for the thread that enters, and for threads that run in a copy of its context.
    """
    token = _allowed.set(allowed)
    try:
        yield
    finally:
        _allowed.reset(token)


def device() -> torch.device:
    """The device to compute on: the process's GPU if that was allowed and torch sees one.

    Raises
    ------
    TilewrightError
        If torch is not installed.
    """
    settle()
    import torch  # noqa: PLC0415

    if not _allowed.get():
        return torch.device("cpu")
    if torch.cuda.is_available():
        # The executor shows a process one GPU only; it is the first.
        return torch.device("cuda", 0)
    _say_no_gpu()
    return torch.device("cpu")


def device_name() -> str:
    """The device as a certificate may name it: "CPU", or the GPU's model and torch's CUDA."""
    here = device()
    import torch  # noqa: PLC0415

    if here.type == "cpu":
        return "CPU"
    return f"{torch.cuda.get_device_name(here)}, CUDA {torch.version.cuda}"


@functools.cache
def settle() -> None:
    """Settle torch in this process so that equal windows give equal bits.

    One thread on the CPU: how sums are split may depend on the number of threads, and a cluster
    has a process a core already. On a GPU: no choice of algorithms by measured time, deterministic
    ones where torch has them, and no TF32 unless it is asked for.

    Raises
    ------
    TilewrightError
        If torch is not installed.
    """
    # cuBLAS reads it once; without it, its sums may differ between streams.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        import torch  # noqa: PLC0415  an extra, and 2 s of import
    except ImportError as error:
        raise TilewrightError(
            f"Networks need torch, which cannot be imported ({error}). "
            "Install it: pip install 'tilewright[nets]'"
        ) from error
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Each place is written once where pooling windows do not overlap, as SegNet's do not.
    warnings.filterwarnings("ignore", message="max_unpooling2d_forward_out does not have a deter")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    _set_tf32(False)


@contextmanager
def autocast(precision: Precision) -> Iterator[None]:
    """Compute in a precision on the device of this process.

    Parameters
    ----------
    precision : "float32", "tf32", "bf16" or "fp16"
        "tf32" multiplies float32 with 10 bits of mantissa on a GPU, and is "float32" on a CPU. The
        last two compute in 16 bits where torch deems that safe; outputs may be of 16 bits, too.
    """
    here = device()
    import torch  # noqa: PLC0415

    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    halves = torch.autocast(here.type, dtype=dtype, enabled=precision in ("bf16", "fp16"))
    if here.type == "cpu":
        with halves:
            yield
        return
    with GPU_LOCK:  # TF32 is a setting of the process
        _set_tf32(precision == "tf32")
        try:
            with halves:
                yield
        finally:
            _set_tf32(False)


def _set_tf32(on: bool) -> None:
    import torch  # noqa: PLC0415

    torch.backends.cuda.matmul.allow_tf32 = on
    torch.backends.cudnn.allow_tf32 = on


@functools.cache
def _say_no_gpu() -> None:
    """Say once a process that a GPU worker computes on its CPU."""
    import torch  # noqa: PLC0415

    log.warning(
        "this worker was given GPU %s, but torch %s sees none: it computes on the CPU. "
        "Install a CUDA build of torch that fits the driver, or set TILEWRIGHT_GPUS=none.",
        os.environ.get("CUDA_VISIBLE_DEVICES", "?"),
        torch.__version__,
    )
