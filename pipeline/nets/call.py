"""One ATen operation, as the rules of `pipeline.nets.rules` see it. Needs torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Protocol

import torch
from torch import Tensor

from pipeline.nets.axes import Axis, Dim, Factor, Layout, MixingError, is_space, single


class Known(Protocol):
    """What is known of the arrays before an operation."""

    #: Sides of the input in px.
    extent: tuple[int, ...]

    def layout(self, tensor: Tensor) -> Layout: ...

    def broadcast(
        self, tensors: Sequence[Tensor], shape: Sequence[int], free: int | None = None
    ) -> Layout:
        """The layout of arrays that meet at `shape`, whatever they have along `free`."""

    def pool(self, indices: Tensor) -> tuple[Pool, Layout]:
        """The pool that made these indices, and what they depend on."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Sizes of a pool, a number an axis."""

    kernel: list[int]
    stride: list[int]
    padding: list[int]
    dilation: list[int]

    @property
    def ndim(self) -> int:
        return len(self.kernel)

    def reach(self, k: int) -> int:
        """Indices from the first to the last that a pool reads along axis `k`."""
        return self.dilation[k] * (self.kernel[k] - 1)


@dataclass(frozen=True)
class Call:
    """One operation.

    Parameters
    ----------
    name : str
        "aten::add" and "aten::add_" are both "add".
    args : dict of str
        Arguments by their names, with defaults.
    shapes : list of tuple of int
        Of the arrays that the operation made.
    known : Known
        What is known of the arrays before.
    """

    name: str
    args: dict[str, Any]
    shapes: list[tuple[int, ...]]
    known: Known = field(repr=False)

    @property
    def first(self) -> Tensor:
        """The array that the operation works on."""
        tensor: Tensor = self.args["self" if "self" in self.args else "input"]
        return tensor

    @property
    def source(self) -> Layout:
        """The layout of the array that the operation works on."""
        return self.known.layout(self.first)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the first array that was made."""
        return self.shapes[0]

    def dim(self, key: str = "dim") -> int:
        """An argument that names a dimension, counted from 0."""
        dim: int = self.args[key]
        return dim % len(self.source)

    def dims(self) -> set[int]:
        """Dimensions that a reduction goes over; all where it names none."""
        named = self.args["dim"]
        rank = len(self.source)
        if named is None or named == []:
            return set(range(rank))
        return {d % rank for d in (named if isinstance(named, list | tuple) else [named])}

    def each(self, key: str, ndim: int) -> list[int]:
        """An argument with a number an axis, or one for all."""
        value = self.args[key]
        numbers = [value] if isinstance(value, int) else list(value)
        return numbers * ndim if len(numbers) == 1 else numbers

    def own_pool(self) -> Pool:
        """The sizes of a pool that is this operation."""
        ndim = int(self.name[self.name.index("pool") + 4])
        kernel = self.each("kernel_size", ndim)
        stride = self.each("stride", ndim) if self.args["stride"] else kernel
        dilation = self.each("dilation", ndim) if "dilation" in self.args else [1] * ndim
        return Pool(kernel, stride, self.each("padding", ndim), dilation)

    def moved(
        self,
        ndim: int,
        change: Callable[[int, Axis], Axis],
        beyond: bool,
        source: Layout | None = None,
    ) -> list[Layout]:
        """The first argument, or `source`, with its last `ndim` axes changed; channels stay.

        `beyond`: indices outside the array are read too.
        """
        source = source or self.source
        tail: list[Dim] = []
        for k, dim in enumerate(source[-ndim:]):
            axis = single(dim)
            if axis and beyond:
                axis = axis.padded(size_of(dim), self.known.extent[axis.of])
            tail.append((Factor(self.shape[k - ndim], axis and change(k, axis)),))
        return [(*source[:-ndim], *tail)]


def size_of(dim: Dim) -> int:
    """The number of indices of a dimension."""
    return prod(factor.size for factor in dim)


def demand_channels(dim: Dim) -> None:
    """Refuse a dimension that runs along space."""
    if is_space(dim):
        raise MixingError("mixes pixels of any distance")


Rule = Callable[[Call], list[Layout]]
#: From the name of an operation to what its results depend on, a layout for each array.
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Enter a function into the table."""

    def enter(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return enter


def is_composite(func: Any) -> bool:
    """Whether an operation is made of others that are better looked at."""
    name = func.name()
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(name, "CompositeImplicitAutograd"))


def operation_name(func: Any) -> str:
    """The name of an operation, without its namespace and the mark of in-place ones."""
    name: str = func._schema.name.removeprefix("aten::")
    return name.removesuffix("_") if func._schema.is_mutable else name


def bound_arguments(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by their names, with defaults."""
    found = {}
    for k, argument in enumerate(func._schema.arguments):
        given = args[k] if k < len(args) else kwargs.get(argument.name, argument.default_value)
        found[argument.name] = given
    return found
