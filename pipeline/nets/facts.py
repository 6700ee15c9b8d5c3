"""What running a network takes and sees, measured without running it on numbers.

Tensors on torch's "meta" device have shapes and no values, so that a large network is measured in a
moment and without memory.
"""

from __future__ import annotations

import functools
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True, slots=True)
class Cost:
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


def measure_cost(module: nn.Module, in_channels: int, shape: tuple[int, ...]) -> Cost:
    """Follow a pass over a window of `shape`, a multiple of the network's stride."""
    window = torch.zeros((1, in_channels, *shape), device="meta")
    size = functools.reduce(lambda a, b: a * b, shape, 1)
    counter = FlopCounterMode(display=False)
    living = _Living()
    with torch.inference_mode(), counter, living:
        module(window)
    return Cost(living.peak / size, counter.get_total_flops() / size)


class _Living(TorchDispatchMode):
    """Adds up the bytes of tensors as they come and go."""

    def __init__(self) -> None:
        super().__init__()
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


@dataclass(frozen=True, slots=True)
class Facts:
    """What a model takes and sees.

    Parameters
    ----------
    stride_px, halo_px : tuple of int
        See `pipeline.nets.reach`.
    statistics : int
        Of a whole frame, each a pass of its own.
    bytes_per_px, flops_per_px : float
        See `Cost`.
    weight_bytes : int
    """

    stride_px: tuple[int, ...]
    halo_px: tuple[int, ...]
    statistics: int
    bytes_per_px: float
    flops_per_px: float
    weight_bytes: int

    def window_bytes(self, block: Sequence[int], frame: Sequence[int] | None = None) -> int:
        """Memory of a pass over the window of a block, the weights left out."""
        sides = [b + 2 * h for b, h in zip(block, self.halo_px, strict=True)]
        if frame is not None:
            sides = [
                min(side, -(-n // s) * s)
                for side, n, s in zip(sides, frame, self.stride_px, strict=True)
            ]
        return int(self.bytes_per_px * math.prod(sides))

    def overhead(self, block: Sequence[int]) -> float:
        """Pixels of a window for every pixel of its block."""
        return math.prod((b + 2 * h) / b for b, h in zip(block, self.halo_px, strict=True))


@functools.lru_cache(maxsize=16)
def facts_of(reference: ModelReference) -> Facts:
    """Measure a model.

    Raises
    ------
    ModelError
        If it cannot be opened, or cannot be run in windows.
    """
    path = Path(reference.path)
    card = read_card(path)
    module = skeleton(card) if card.architecture not in FOREIGN else load_module(path)
    network = GlobalContext(module)
    reach = reach_of(network, card)
    shape = tuple(max(s, -(-MEASURED_PX[card.ndim] // s) * s) for s in reach.stride)
    return Facts(
        reach.stride,
        reach.halo_px,
        network.count,
        *measure_cost(module, card, shape),
        sum(p.numel() * p.element_size() for p in module.parameters()),
    )
