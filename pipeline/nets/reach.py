"""How far a network looks: its exact halo and total stride, from the operations that run.

Needs torch. A pixel of the logits that is `halo_px` inside a window that begins on the total stride
has the value that it has in the whole frame, but for the rounding of floats.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from math import floor, lcm

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from pipeline.errors import ModelError
from pipeline.nets.axes import MixingError, single
from pipeline.nets.dependence import Dependence, watched_path

#: Sides to try, in px: fake arrays cost nothing; real ones are for what reads values as it runs.
_FAKE_SIDES = (20160, 9216)
_REAL_SIDES = (64, 96, 160)

REMEDY = (
    "Use a layer that looks at near pixels only, or, if you know how far the model looks, state "
    "halo_px and stride_px in its card; they are checked when it is loaded."
)


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a network looks, in px, one number an axis of space.

    Parameters
    ----------
    stride : tuple of int
        The total stride: shifting the input by so many px shifts the output, and no less will do.
        Windows begin on multiples of it and their sides are multiples of it.
    before, after : tuple of int
        An output pixel depends on input pixels from so many px before it to so many behind it.
    unpools : bool
        Whether values are put back where a pool found them, see `pipeline.nets.margins`.
    """

    stride: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    unpools: bool = False

    @property
    def halo_px(self) -> tuple[int, ...]:
        """Px that a window needs around a block: the farther reach, rounded up to the stride."""
        return tuple(
            -(-max(before, after) // stride) * stride
            for stride, before, after in zip(self.stride, self.before, self.after, strict=True)
        )


def measure_reach(
    module: nn.Module, in_channels: int, ndim: int, name: str | None = None, zoom: float = 1.0
) -> Reach:
    """Find how far a network looks, by interval arithmetic over the operations that run.

    Parameters
    ----------
    module : nn.Module
        Maps (1, in_channels, \\*S) to (1, classes, \\*S), in evaluation mode.
    in_channels, ndim : int
        Channels and axes of space, 2 or 3.
    name : str, optional
        What messages call the model; its class by default.
    zoom : float
        See `attempts`.

    Raises
    ------
    ModelError
        If the network cannot be run in windows: the message names the operation and the module
        that mix pixels of any distance, depend on the image's size, or are not known.

    References
    ----------
    Araujo, Norris, Sim, Computing receptive fields of convolutional neural networks, 2019,
    doi:10.23915/distill.00021
    """
    name = name or type(module).__name__
    problem: Exception | str = ""
    for side, mode in attempts(zoom):
        try:
            found = [_measure(module, (1, in_channels, *(k * side,) * ndim), mode) for k in (1, 2)]
        except ModelError as error:
            raise ModelError(f"{name}: {error}. {REMEDY}") from error
        except Exception as error:  # whatever a module raises for a size that it does not like
            problem = error
            continue
        if found[0] == found[1] and not any(side % stride for stride in found[0].stride):
            return found[0]
        problem = f"how far it looks depends on the size of the image ({found[0]}, {found[1]})"
    raise ModelError(
        f"{name}: {problem}. It must map an array of {in_channels} channels and any {ndim} sides "
        "that its total stride divides to logits of the same sides."
    ) from (problem if isinstance(problem, Exception) else None)


def attempts(
    zoom: float = 1.0,
) -> Iterator[tuple[int, Callable[[], AbstractContextManager[object]]]]:
    """Sides of an input to try, in px, and the mode that its arrays are made in.

    `zoom`: how much larger the network inside sees it, whose real arrays are of the same size then.
    """
    for side in _FAKE_SIDES:
        yield side, _fake_arrays
    for side in _REAL_SIDES:
        yield round(side / zoom), nullcontext


@contextmanager
def _fake_arrays() -> Iterator[None]:
    """Arrays of shapes and no values; a size that does not fit is not logged."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before, log.disabled = log.disabled, True
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield
    finally:
        log.disabled = before


def _measure(
    module: nn.Module, shape: tuple[int, ...], mode: Callable[[], AbstractContextManager[object]]
) -> Reach:
    """The reach for one size of the input."""
    like = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))
    with torch.no_grad(), mode(), watched_path(module) as running:
        image = torch.zeros(shape, dtype=like.dtype, device=like.device)
        watch = Dependence(image, running)
        try:
            with watch:
                logits = module(image)
        except Exception as error:
            raise watch.refused or error from error
        return _read(watch, logits, shape)


def _read(watch: Dependence, logits: object, shape: tuple[int, ...]) -> Reach:
    ndim = len(shape) - 2
    if not isinstance(logits, Tensor) or logits.dim() != len(shape):
        raise ValueError("it gives no array of logits of the shape (N, classes, *S)")
    try:
        axes = [single(dim) for dim in watch.layout(logits)[2:]]
    except MixingError as error:
        raise ModelError(f"the result {error}") from error
    for k, axis in enumerate(axes):
        if axis is None or axis.of != k or axis.step != 1 or logits.shape[2 + k] != shape[2 + k]:
            raise ValueError(
                f"an image of {list(shape[2:])} px gives logits of {list(logits.shape[2:])}"
            )
    stride = [1] * ndim
    for k, period in watch.strides():
        stride[k] = lcm(stride[k], period)
    return Reach(
        tuple(stride),
        tuple(max(0, floor(-axis.lo)) for axis in axes if axis),
        tuple(max(0, floor(axis.hi)) for axis in axes if axis),
        watch.unpools,
    )
