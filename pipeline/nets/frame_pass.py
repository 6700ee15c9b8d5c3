"""One pass of a network over a window, with statistics of the frame put in. Needs torch.

Layers that look at the whole frame are met as the operations that really run, so that it does not
matter how a network spells them: modules, functions, TorchScript. Arrays carry a mark: made of the
window's pixels, or of statistics alone and so the same in every window.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pipeline.errors import ModelError
from pipeline.nets.call import bound_arguments, is_composite, operation_name
from pipeline.nets.frame_window import FrameWindow
from pipeline.nets.statistics import Array, Means, Moments, Statistic, normalised, upsampled


@dataclass(frozen=True, slots=True)
class Mark:
    """What an array is made of.

    Parameters
    ----------
    of : str
        "window": pixels of the window; "frame": only statistics of the frame.
    level : int
        Number of statistics, one needed for the next, that it needs.
    """

    of: Literal["window", "frame"]
    level: int


@dataclass(frozen=True, slots=True)
class Asked:
    """An operation that asks for a statistic.

    Parameters
    ----------
    kind : str
        "mean", "bins", "group" or "batch", by the operation.
    x : Tensor of shape (1, C, \\*S)
    statistic : Means or Moments
    args : dict of str
        Arguments of the operation.
    """

    kind: Literal["mean", "bins", "group", "batch"]
    x: Tensor
    statistic: Statistic
    args: dict[str, Any]

    def answer(self, found: Array) -> Any:
        """What the operation gives, with the statistic of the frame."""
        x, args = self.x, self.args
        if self.kind in ("mean", "bins"):
            pooled = torch.from_numpy(found).to(x.device, x.dtype)[None]
            drop = self.kind == "mean" and not args["keepdim"]
            return pooled.flatten(1) if drop else pooled
        eps: float = args["eps" if "eps" in args else "epsilon"]
        made = normalised(x, found, eps, args["weight"], args["bias"])
        return (*made, x.new_empty(0)) if "exponential_average_factor" in args else made


def asked(name: str, args: dict[str, Any], ndim: int) -> Asked | None:
    """The statistic that an operation on a window's pixels asks for, None if it asks for none."""
    x = args.get("self", args.get("input"))
    if not isinstance(x, Tensor) or x.dim() != ndim + 2:
        return None
    channels = int(x.shape[1])
    if name == "mean" and args.get("dim") is not None:
        if {d % x.dim() for d in args["dim"]} == set(range(2, x.dim())):
            return Asked("mean", x, Means(channels, (1,) * ndim), args)
    elif name in ("_adaptive_avg_pool2d", "_adaptive_avg_pool3d"):
        bins = tuple(int(n) for n in args["output_size"])
        return Asked("bins", x, Means(channels, bins), args)
    elif name == "native_group_norm":
        return Asked("group", x, Moments(int(args["group"])), args)
    elif "batch_norm" in name and args.get("training", False):
        return Asked("batch", x, Moments(channels), args)
    return None


class FramePass(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types
    """Runs a network with its statistics handled by a subclass, while it is the active mode.

    Parameters
    ----------
    image : Tensor of shape (1, C, \\*S)
        The window's pixels; they get a mark.
    window : FrameWindow
        Where they lie.
    """

    def __init__(self, image: Tensor, window: FrameWindow) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.refused: ModelError | None = None
        self.window = window
        self.sides = tuple(image.shape[2:])
        self.number = 0
        _set_marks([image], Mark("window", 0))

    @abstractmethod
    def meet(self, question: Asked, level: int) -> Any:
        """What an operation gives that asks for statistic `self.number`, known at `level`."""

    def spread(self, bins: Tensor, sides: tuple[int, ...], mode: str, corners: bool) -> Tensor:
        """A map of bins at the pixels of the window, which has `sides` in this layer."""
        layer = self.window.at_layer(self.sides, sides)
        return upsampled(bins, layer, sides, mode, corners)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim":
            return func(*args, **kwargs)
        if is_composite(func):
            with self:
                return func.decompose(*args, **kwargs)
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        marks = [mark for tensor in inputs if (mark := _mark(tensor))]
        if not marks:
            return func(*args, **kwargs)
        try:
            made, mark = self._run(func, args, kwargs, inputs, marks)
        except ModelError as error:
            self.refused = error
            raise
        _set_marks(made, mark)
        return made

    def _run(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        inputs: list[Tensor],
        marks: list[Mark],
    ) -> tuple[Any, Mark]:
        """Run one operation; returns what it made, and its mark."""
        name, bound = operation_name(func), bound_arguments(func, args, kwargs)
        level = max(mark.level for mark in marks)
        if any(mark.of == "window" for mark in marks):
            question = asked(name, bound, len(self.sides))
            if question:
                pooled = question.kind in ("mean", "bins")
                made = self.meet(question, level)
                self.number += 1
                return made, Mark("frame" if pooled else "window", level + 1)
            for tensor in inputs:
                self._check_place(name, tensor)
            return func(*args, **kwargs), Mark("window", level)
        if "upsample" in name and all(bound[key] is None for key in bound if "scales" in key):
            mode = "nearest-exact" if "exact" in name else "nearest"
            mode = mode if "nearest" in name else "linear"
            if "cubic" in name:
                raise ModelError("A pooled map is upsampled by cubics. Use bilinear upsampling.")
            sides, corners = tuple(bound["output_size"]), bool(bound.get("align_corners"))
            return self.spread(bound["self"], sides, mode, corners), Mark("window", level)
        grows = name in ("expand", "repeat")
        return func(*args, **kwargs), Mark("window" if grows else "frame", level)

    def _check_place(self, name: str, tensor: Tensor) -> None:
        """Refuse bins of the frame where pixels of the window are meant."""
        mark, ndim = _mark(tensor), len(self.sides)
        if (
            mark
            and mark.of == "frame"
            and tensor.dim() == ndim + 2
            and tensor.shape[2:].numel() > 1
        ):
            raise ModelError(
                f"aten::{name} joins a pooled map of {list(tensor.shape[2:])} bins to pixels. "
                "Upsample it to the size of the image first."
            )


class LonePixels(TorchFunctionMode):
    """Lets norms run on a layer of one pixel: its variance is 0.

    Frames no larger than the total stride have such layers. Torch's functions refuse them, since
    nothing can be learnt from them.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.instance_norm:
            return _instance_norm(*args, **kwargs)
        if func is functional.group_norm:
            return _group_norm(*args, **kwargs)
        return func(*args, **kwargs)


def _instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    known = (weight, bias, running_mean, running_var)
    return torch.instance_norm(input, *known, use_input_stats, momentum, eps, False)


def _group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    return torch.group_norm(input, num_groups, weight, bias, eps, False)


def _mark(tensor: Tensor) -> Mark | None:
    mark: Mark | None = getattr(tensor, "_frame_mark", None)
    return mark


def _set_marks(made: Any, mark: Mark) -> None:
    # An attribute lives as long as its array, and no longer, even where only C++ holds the array.
    for tensor in tree_leaves(made):
        if isinstance(tensor, Tensor):
            tensor._frame_mark = mark  # type: ignore[attr-defined]


class Trace(FramePass):  # type: ignore[no-untyped-call]
    """Notes which statistics are asked for, and after how many others each is known."""

    def __init__(self, image: Tensor) -> None:
        super().__init__(image, FrameWindow.whole(image.shape[2:]))
        self.found: list[tuple[int, Statistic]] = []

    def meet(self, question: Asked, level: int) -> Any:
        self.window.at_layer(self.sides, question.x.shape[2:])
        self.found.append((level, question.statistic))
        return question.answer(neutral(question.statistic))


class Inject(FramePass):  # type: ignore[no-untyped-call]
    """Puts statistics in; level `wanted` is summed up instead, as soon as it is met.

    Parameters
    ----------
    asked_for : list of (int, Means or Moments)
        Level and kind of each statistic, in the order of the trace.
    answers : list of ndarray or None
        Each statistic, None where it is not known yet.
    wanted : int or None
        The level whose sums are collected; the pass ends with the last of them.
    """

    def __init__(
        self,
        image: Tensor,
        window: FrameWindow,
        asked_for: list[tuple[int, Statistic]],
        answers: list[Array | None],
        wanted: int | None = None,
    ) -> None:
        super().__init__(image, window)
        self.asked_for = asked_for
        self.answers = answers
        self.wanted = wanted
        self.totals: list[Array] = []
        self.collected = False

    def meet(self, question: Asked, level: int) -> Any:
        expected = self.asked_for[self.number : self.number + 1]
        if expected != [(level, question.statistic)]:
            raise ModelError(
                f"The network asks for {question.statistic} where it asked for {expected} before. "
                "Its layers must not depend on the values or the size of the image."
            )
        if level == self.wanted:
            layer = self.window.at_layer(self.sides, question.x.shape[2:])
            self.totals.append(question.statistic.collect(question.x, layer))
            if len(self.totals) == sum(at == level for at, _ in self.asked_for):
                self.collected = True
                raise Collected
        known = self.answers[self.number]
        return question.answer(neutral(question.statistic) if known is None else known)


class Collected(Exception):
    """All sums of a level are there: the rest of the network need not run."""


class Neutral(FramePass):  # type: ignore[no-untyped-call]
    """Means of 0 and variances of 1, and bins that stand at their places: to measure the reach."""

    def __init__(self, image: Tensor) -> None:
        super().__init__(image, FrameWindow.whole(image.shape[2:]))
        self._image = image

    def meet(self, question: Asked, level: int) -> Any:
        return question.answer(neutral(question.statistic))

    def spread(self, bins: Tensor, sides: tuple[int, ...], mode: str, corners: bool) -> Tensor:
        places = self._image[:, :1]
        if any(side > whole for whole, side in zip(self.sides, sides, strict=True)):
            places = functional.interpolate(places, size=sides)  # of a network that sees it larger
        steps = (n // side for n, side in zip(places.shape[2:], sides, strict=True))
        every = [slice(None, None, step) for step in steps]
        places = places[(slice(None), slice(None), *every)]
        for axis in range(2, bins.dim()):
            bins = bins.narrow(axis, 0, 1)
        return bins + 0 * places


def neutral(statistic: Statistic) -> Array:
    """Means of 0, variances of 1."""
    found = np.zeros(statistic.shape)
    if isinstance(statistic, Moments):
        found[1] = 1.0
    return found
