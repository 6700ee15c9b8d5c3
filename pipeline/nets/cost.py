"""What a pass of a network takes, found without numbers. Needs torch.

Tensors on torch's "meta" device have shapes and no values, so that a large network is measured in a
moment and without memory.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode


class Cost(NamedTuple):
    """Cost of a pass, a px of its window.

    Parameters
    ----------
    bytes_per_px : float
        Largest memory of all tensors that live at the same time, without the weights.
    flops_per_px : float
        Multiplications and additions of convolutions and matrix products.
    """

    bytes_per_px: float
    flops_per_px: float


def measure_cost(module: Callable[[Tensor], Any], in_channels: int, shape: tuple[int, ...]) -> Cost:
    """Follow a pass over a window of `shape`, a multiple of the network's stride."""
    window = torch.zeros((1, in_channels, *shape), device="meta")
    size = math.prod(shape)
    counter = FlopCounterMode(display=False)
    living = _Living()
    with torch.no_grad(), counter, living:
        module(window)
    return Cost(living.peak / size, counter.get_total_flops() / size)


class _Living(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes of tensors as they come and go."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor):
                self._count(tensor)
        self.peak = max(self.peak, self.now)
        return out

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._seen:
            return  # a view, or in place
        size = storage.nbytes()
        self._seen.add(key)
        self.now += size
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size
