"""Watching a network run: which input pixels every array depends on. Needs torch.

Intervals are handed on by the operations that really run, so control flow in Python, TorchScript
and exported programs need no care of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pipeline.errors import ModelError
from pipeline.nets import rules, shape_rules  # noqa: F401  they fill the table RULES
from pipeline.nets.axes import Axis, Factor, Layout, MixingError, hull, is_space, plain
from pipeline.nets.call import (
    RULES,
    Call,
    Pool,
    bound_arguments,
    demand_channels,
    is_composite,
    operation_name,
    size_of,
)

#: Operations that make an array of one value.
_FILLING = {"zeros", "ones", "full", "scalar_tensor", "new_zeros", "new_ones", "new_full"} | {
    "zeros_like",
    "ones_like",
    "full_like",
}


@contextmanager
def watched_path(module: nn.Module) -> Iterator[list[str]]:
    """The names of the modules that run, the innermost last; it keeps them after an error."""
    running: list[str] = []
    hooks = []
    for name, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            continue  # takes no hooks
        # nn.Module calls hooks with arguments that do not matter here.
        hooks.append(part.register_forward_pre_hook(lambda *_, n=name: running.append(n)))
        hooks.append(part.register_forward_hook(lambda *_: void(running.pop())))
    try:
        yield running
    finally:
        for hook in hooks:
            hook.remove()


def void(_: object) -> None:
    """None: what a hook returns takes the place of the module's result."""


class Dependence(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types
    """Follows what depends on the pixels of one array, while it is the active mode.

    Parameters
    ----------
    image : Tensor of shape (N, C, \\*S)
        The input.
    running : list of str
        Names of the modules that run, see `watched_path`.

    Raises
    ------
    ModelError
        By an operation that is not known, or that mixes pixels of any distance. It is kept in
        `refused`, since TorchScript makes another error of it.
    """

    def __init__(self, image: Tensor, running: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.extent = tuple(image.shape[2:])
        self.refused: ModelError | None = None
        self.unpools = False
        self._running = running
        # Arrays are kept alive, so that no id is used twice.
        self._alive: list[Any] = [image]
        space = [(Factor(n, Axis(k)),) for k, n in enumerate(self.extent)]
        self._layouts: dict[int, Layout] = {id(image): (*plain(tuple(image.shape[:2])), *space)}
        self._pools: dict[int, tuple[Pool, Layout]] = {}
        self._filled: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim":
            return func(*args, **kwargs)
        if is_composite(func):
            with self:
                return func.decompose(*args, **kwargs)
        made = func(*args, **kwargs)
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        outputs = [leaf for leaf in tree_leaves(made) if isinstance(leaf, Tensor)]
        self._alive += [*inputs, *outputs]
        try:
            self._follow(func, bound_arguments(func, args, kwargs), inputs, outputs)
        except MixingError as error:
            self.refused = ModelError(f"{self._place(func)} {error}")
            raise self.refused from error
        return made

    def layout(self, tensor: Tensor) -> Layout:
        """What an array depends on."""
        if id(tensor) in self._pools:
            raise MixingError("computes with the places of maxima")
        return self._layouts.get(id(tensor)) or plain(tuple(tensor.shape))

    def pool(self, indices: Tensor) -> tuple[Pool, Layout]:
        """The pool that made these indices, and what they depend on."""
        if id(indices) not in self._pools:
            raise MixingError("unpools with indices that do not come from a pool as they are")
        self.unpools = True
        return self._pools[id(indices)]

    def broadcast(
        self, tensors: Sequence[Tensor], shape: Sequence[int], free: int | None = None
    ) -> Layout:
        """The layout of arrays that meet at `shape`, whatever they have along `free`."""
        found = list(plain(tuple(shape)))
        known = [(t, self.layout(t)) for t in tensors if t.numel()]
        for tensor, layout in known:
            for k, dim in enumerate(layout, len(shape) - tensor.dim()):
                if k != free and size_of(dim) == shape[k]:
                    found[k] = hull(found[k], dim)
                elif k != free:
                    demand_channels(dim)
        for tensor, _ in known:
            if id(tensor) not in self._layouts and id(tensor) not in self._filled:
                for k, size in enumerate(tensor.shape):
                    if size > 1 and tensor.stride(k) and is_space(found[k - tensor.dim()]):
                        raise MixingError("joins the image and an array that has places of its own")
        return tuple(found)

    def strides(self) -> Iterator[tuple[int, int]]:
        """Axes of the input and a number of px that divides the period of the network there."""
        for layout in self._layouts.values():
            for axis in (factor.axis for dim in layout for factor in dim):
                if axis is not None:
                    yield axis.of, axis.step.numerator

    def _follow(
        self, func: Any, args: dict[str, Any], inputs: list[Tensor], outputs: list[Tensor]
    ) -> None:
        """Note what the arrays that an operation made depend on."""
        name = operation_name(func)
        pointwise = torch.Tag.pointwise in func.tags
        if torch.Tag.nondeterministic_seeded in func.tags and name not in RULES:
            raise MixingError("draws random numbers; call eval() on the model")
        if not any(id(t) in self._layouts or id(t) in self._pools for t in inputs):
            spread = pointwise or name in ("expand", "clone", "alias", "detach", "_to_copy")
            same = all(id(t) in self._filled or t.dim() == 0 for t in inputs)
            if name in _FILLING or (spread and same):
                self._filled.update(map(id, outputs))
            else:
                self._filled.difference_update(map(id, outputs))
            return
        if name in _FILLING:
            self._filled.update(map(id, outputs))
            return
        if name in ("empty_like", "new_empty"):
            return
        call = Call(name, args, [tuple(t.shape) for t in outputs], self)
        if name in RULES:
            found = RULES[name](call)
        elif pointwise:
            found = [self.broadcast(inputs, call.shape)]
        else:
            raise MixingError("is not known to look at near pixels only")
        for tensor, layout in zip(outputs, found, strict=False):
            if func._schema.is_mutable:
                self._check_write(tensor, layout)
            self._layouts[id(tensor)] = layout
        if name.startswith("max_pool"):
            self._pools[id(outputs[1])] = call.own_pool(), found[0]

    def _check_write(self, tensor: Tensor, layout: Layout) -> None:
        """Refuse to change what other arrays that share this one's memory depend on."""
        if self._layouts.get(id(tensor)) == layout:
            return
        storage = tensor.untyped_storage()
        shared = any(
            other is not tensor
            and id(other) in self._layouts
            and other.untyped_storage()._cdata == storage._cdata
            for other in self._alive
        )
        if shared or tensor.numel() * tensor.element_size() < storage.nbytes():
            raise MixingError("writes into a part of an array")

    def _place(self, func: Any) -> str:
        where = next((name for name in reversed(self._running) if name), "")
        return f"{func._schema.name}{f' in the module {where}' if where else ''}"
