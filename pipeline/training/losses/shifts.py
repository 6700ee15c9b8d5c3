"""Pairs of pixels that lie a few px apart. Needs torch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from torch import Tensor
from torch.nn import functional


def half_neighbourhood(ndim: int, step: int) -> list[tuple[int, ...]]:
    """Offsets of -step, 0 or step an axis, one of each two that are opposite: 4 in planes."""
    every = list(itertools.product((-step, 0, step), repeat=ndim))
    return every[len(every) // 2 + 1 :]


def neighbourhood(ndim: int, step: int) -> list[tuple[int, ...]]:
    """All offsets of -step, 0 or step an axis but nothing: 8 in planes."""
    return [o for o in itertools.product((-step, 0, step), repeat=ndim) if any(o)]


def pair(array: Tensor, offset: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Values (..., \\*Q) of the pixels that have a partner at an offset, and the partners'."""
    first = tuple(slice(max(0, -o), min(n, n - o)) for o, n in _axes(array, offset))
    second = tuple(slice(max(0, o), min(n, n + o)) for o, n in _axes(array, offset))
    return _cut(array, first), _cut(array, second)


def shifted(array: Tensor, offset: Sequence[int]) -> Tensor:
    """Values (N, C, \\*P) at an offset from each pixel; the last pixel goes on outside."""
    margin = [max(map(abs, offset))] * (2 * len(offset))
    wide = functional.pad(array, margin, mode="replicate")
    m = margin[0]
    return _cut(wide, tuple(slice(m + o, m + o + n) for o, n in _axes(array, offset)))


def _cut(array: Tensor, last: tuple[slice, ...]) -> Tensor:
    """Slices of the last axes."""
    before = (slice(None),) * (array.ndim - len(last))
    return array[before + last]


def _axes(array: Tensor, offset: Sequence[int]) -> Iterator[tuple[int, int]]:
    return zip(offset, array.shape[-len(offset) :], strict=True)
