"""Half-open boxes of pixels: the geometry of tiles, cores, halos and windows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """A half-open box ``start <= x < stop`` in px, one entry an axis.

    Parameters
    ----------
    start, stop : tuple of int
        First pixel inside and first pixel behind, in the order of the axes.
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Box:
        """The box that holds an array of `shape` from its origin."""
        return cls((0,) * len(shape), tuple(int(n) for n in shape))

    @property
    def ndim(self) -> int:
        return len(self.start)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(max(0, b - a) for a, b in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        """Number of pixels."""
        size = 1
        for n in self.shape:
            size *= n
        return size

    @property
    def slices(self) -> tuple[slice, ...]:
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def grow(self, margin: int | Sequence[int], within: Box) -> Box:
        """Add `margin` px on every side (a number, or one an axis), clipped to `within`."""
        m = (margin,) * self.ndim if isinstance(margin, int) else tuple(margin)
        return Box(
            tuple(max(a - k, lo) for a, k, lo in zip(self.start, m, within.start, strict=True)),
            tuple(min(b + k, hi) for b, k, hi in zip(self.stop, m, within.stop, strict=True)),
        )

    def intersect(self, other: Box) -> Box:
        """The common box; its size is 0 where there is none."""
        start = tuple(max(a, b) for a, b in zip(self.start, other.start, strict=True))
        stop = tuple(
            max(s, min(a, b)) for s, a, b in zip(start, self.stop, other.stop, strict=True)
        )
        return Box(start, stop)

    def union(self, other: Box) -> Box:
        """The smallest box that holds both."""
        return Box(
            tuple(min(a, b) for a, b in zip(self.start, other.start, strict=True)),
            tuple(max(a, b) for a, b in zip(self.stop, other.stop, strict=True)),
        )

    def contains(self, other: Box) -> bool:
        return all(a <= b for a, b in zip(self.start, other.start, strict=True)) and all(
            a >= b for a, b in zip(self.stop, other.stop, strict=True)
        )

    def relative_to(self, origin: Sequence[int]) -> Box:
        """The same pixels, counted from `origin`."""
        return Box(
            tuple(a - o for a, o in zip(self.start, origin, strict=True)),
            tuple(b - o for b, o in zip(self.stop, origin, strict=True)),
        )

    def within(self, outer: Box) -> tuple[slice, ...]:
        """Slices that cut this box out of an array that holds `outer`."""
        return self.relative_to(outer.start).slices


def grid(extent: Sequence[int], side: Sequence[int]) -> Iterator[tuple[tuple[int, ...], Box]]:
    """Cut `extent` into boxes of `side`, in raster order.

    Yields
    ------
    index : tuple of int
        Position in the grid.
    box : Box
        The last box on an axis is smaller where `side` does not divide `extent`.
    """
    counts = [-(-n // s) for n, s in zip(extent, side, strict=True)]
    for index in itertools.product(*(range(n) for n in counts)):
        start = tuple(i * s for i, s in zip(index, side, strict=True))
        stop = tuple(min(a + s, n) for a, s, n in zip(start, side, extent, strict=True))
        yield index, Box(start, stop)
