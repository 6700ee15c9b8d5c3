"""Which input pixels an array depends on, axis by axis. Needs no torch.

An index `o` of an axis depends on the input px `step * o + lo` to `step * o + hi`, both ends
included. Convolutions, pools and resamplings all read a run of indices of the axis before them that
moves with `o`, so one rule, `Axis.reads`, is enough for them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod


class MixingError(Exception):
    """An operation for which no interval holds; the message says why."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of space.

    Parameters
    ----------
    of : int
        The axis of the input.
    step : Fraction
        Input px from one index to the next.
    lo, hi : Fraction
        First and last input px of index 0.
    """

    of: int
    step: Fraction = Fraction(1)
    lo: Fraction = Fraction(0)
    hi: Fraction = Fraction(0)

    def reads(
        self, ratio: Fraction | int, first: Fraction | int, last: Fraction | int | None = None
    ) -> Axis:
        """The axis whose index `o` reads indices `ratio * o + first` to `ratio * o + last`."""
        behind = first if last is None else last
        return Axis(
            self.of, self.step * ratio, self.lo + self.step * first, self.hi + self.step * behind
        )

    def padded(self, size: int, extent: int) -> Axis:
        """The axis, where indices outside 0..size-1 are read too, and count as pixels outside.

        Inside a frame such an index is a pixel, at the edge of a window it is padding. The two
        differ even where an array was cut before, and its index -1 lies on a pixel of the window.
        """
        return replace(
            self,
            lo=min(self.lo, self.step - 1),
            hi=max(self.hi, extent - self.step * size),
        )

    def hull(self, other: Axis) -> Axis:
        """The axis that depends on what either depends on."""
        if (self.of, self.step) != (other.of, other.step):
            raise MixingError("joins arrays whose pixels have different sizes")
        return replace(self, lo=min(self.lo, other.lo), hi=max(self.hi, other.hi))


@dataclass(frozen=True, slots=True)
class Factor:
    """A run of `size` indices: along space, or along channels (`axis` None)."""

    size: int
    axis: Axis | None = None


#: The dimensions of an array, each a product of factors, the slowest first.
Dim = tuple[Factor, ...]
Layout = tuple[Dim, ...]


def plain(shape: tuple[int, ...]) -> Layout:
    """The layout of an array that has no axis of space."""
    return tuple((Factor(n),) for n in shape)


def is_space(dim: Dim) -> bool:
    """Whether a dimension runs along space."""
    return any(factor.axis is not None for factor in dim)


def single(dim: Dim) -> Axis | None:
    """The axis of space of a dimension, None if it has none."""
    factors = [factor for factor in dim if factor.size > 1 or factor.axis is not None]
    if not is_space(dim):
        return None
    first, *others = factors
    if first.axis is None or is_space(tuple(others)):
        raise MixingError("folds axes of space into one another or into channels")
    fine = prod(factor.size for factor in others)
    return first.axis.reads(Fraction(1, fine), Fraction(1 - fine, fine), 0)


def regroup(layout: Layout, shape: tuple[int, ...]) -> Layout:
    """The layout of the same array under another shape of as many elements."""
    left = [factor for dim in layout for factor in dim if factor.size > 1 or factor.axis]
    left.reverse()
    found = []
    for size in shape:
        dim: list[Factor] = []
        needed = size
        while needed > 1:
            factor = left.pop()
            if needed % factor.size:
                factor, rest = _split(factor, needed)
                left.append(rest)
            dim.append(factor)
            needed //= factor.size
        found.append(tuple(dim) or (Factor(1),))
    return tuple(found)


def _split(factor: Factor, size: int) -> tuple[Factor, Factor]:
    """Cut a factor into `size` runs, and a run."""
    if factor.size % size:
        raise MixingError("cuts an axis at places that are no multiple of each other")
    run = factor.size // size
    axis = factor.axis and factor.axis.reads(run, 0, run - 1)
    return Factor(size, axis), Factor(run)


def hull(one: Dim, other: Dim) -> Dim:
    """A dimension that depends on what either depends on, both of one size."""
    if not is_space(other):
        return one
    if not is_space(one):
        return other
    if [(f.size, f.axis is None) for f in one] == [(f.size, f.axis is None) for f in other]:
        pairs = zip(one, other, strict=True)
        return tuple(Factor(a.size, a.axis and b.axis and a.axis.hull(b.axis)) for a, b in pairs)
    first, second = single(one), single(other)
    assert first is not None
    assert second is not None
    return (Factor(prod(f.size for f in one), first.hull(second)),)
