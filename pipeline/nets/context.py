"""Networks that look at the whole frame, run in windows. Needs torch.

Image pooling, pyramid pooling, squeeze and excitation, instance and group norm ask for statistics
of all pixels. Each is summed over the blocks of the frame in a pass of its own, then put into the
passes behind it; those that do not need one another share a pass. The frame is the image's,
extended to a multiple of the total stride by repeating its last pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.nets.frame_pass import FramePass, Inject, LonePixels, Neutral, Trace
from pipeline.nets.frame_window import FrameWindow
from pipeline.nets.reach import Reach, attempts, measure_reach
from pipeline.nets.statistics import Array, Statistic
from pipeline.nets.zoomed import Zoomed


class GlobalContext:
    """A network whose statistics of the whole frame are found in passes.

    Parameters
    ----------
    module : nn.Module
        Maps (1, in_channels, \\*S) to (1, classes, \\*S), in evaluation mode. It is not changed.
    in_channels, ndim : int, optional
        Channels and axes of space of the input; by default those of the first convolution.
    name : str, optional
        What messages call the model; its class by default.

    Raises
    ------
    ModelError
        If the network cannot be run.

    Examples
    --------
    >>> found = []
    >>> for number in range(context.count):
    ...     sums = [context.collect(x, window, found) for x, window in windows]
    ...     found.append(context.finish(number, sum(sums)))
    >>> logits = [context.forward(x, window, found) for x, window in windows]
    """

    def __init__(
        self,
        module: nn.Module,
        in_channels: int | None = None,
        ndim: int | None = None,
        name: str | None = None,
    ) -> None:
        self.module = module
        self.name = name or type(module).__name__
        if in_channels is None or ndim is None:
            in_channels, ndim = _first_convolution(module, self.name)
        self.in_channels = in_channels
        self.ndim = ndim
        self._zoom = module.zoom if isinstance(module, Zoomed) else 1.0
        self._asked = self._trace()
        #: Number of passes before the last.
        self.count = 1 + max((level for level, _ in self._asked), default=-1)

    @cached_property
    def reach(self) -> Reach:
        """How far the network looks, with its statistics given."""
        return measure_reach(self.windowed, self.in_channels, self.ndim, self.name, self._zoom)

    @property
    def windowed(self) -> nn.Module:
        """The network with statistics that do not matter: to measure and to probe its reach."""
        return _Windowed(self.module) if self.count else self.module

    def collect(self, x: Tensor, window: FrameWindow, found: Sequence[Array]) -> Array:
        """Sums of statistic number `len(found)` over the block of a window.

        Parameters
        ----------
        x : Tensor of shape (1, in_channels, \\*S)
            The window's pixels.
        window : FrameWindow
            Where it lies.
        found : sequence of ndarray
            The statistics before, as `finish` gave them.

        Returns
        -------
        ndarray of shape (n,), float64
            Counts and sums; those of all blocks are added in the order of the blocks.

        Raises
        ------
        ModelError
            If the network does not ask for the statistics that it asked for at first.
        """
        if not len(found) < self.count:
            raise ValueError(f"there are {self.count} statistics, and all are found")
        x = x.detach()
        step = Inject(x, window, self._asked, self._answers(found), wanted=len(found))
        self._run(step, x)
        return np.concatenate([total.ravel() for total in step.totals])

    def finish(self, number: int, total: Array) -> Array:
        """Make statistic `number` of its sums over all blocks.

        Returns
        -------
        ndarray of shape (m,), float64
            Means, variances, bins, of all layers that share the pass.
        """
        asked = [statistic for level, statistic in self._asked if level == number]
        totals = _cut(total, [statistic.total_shape for statistic in asked])
        finished = [s.finish(part) for s, part in zip(asked, totals, strict=True)]
        return np.concatenate([part.ravel() for part in finished])

    def forward(self, x: Tensor, window: FrameWindow, found: Sequence[Array]) -> Tensor:
        """Logits of a window, with all statistics of the frame put in.

        Parameters
        ----------
        x : Tensor of shape (1, in_channels, \\*S)
            The window's pixels.
        window : FrameWindow
            Where it lies.
        found : sequence of `count` ndarrays
            The statistics, as `finish` gave them.

        Returns
        -------
        Tensor of shape (1, classes, \\*S)
        """
        if len(found) != self.count:
            raise ValueError(f"there are {self.count} statistics, not {len(found)}")
        if not self.count:
            with torch.no_grad():
                logits: Tensor = self.module(x)
            return logits
        x = x.detach()
        done = self._run(Inject(x, window, self._asked, self._answers(found)), x)
        assert done is not None
        return done

    def _trace(self) -> list[tuple[int, Statistic]]:
        """Level and kind of every statistic, in the order in which the network asks for them."""
        problem: Exception | None = None
        for side, mode in attempts(self._zoom):
            try:
                with torch.no_grad(), mode():
                    like = next(self.module.parameters(), torch.empty(0))
                    shape = (1, self.in_channels, *(side,) * self.ndim)
                    image = torch.zeros(shape, dtype=like.dtype, device=like.device)
                    trace = Trace(image)
                    self._run(trace, image)
            except ModelError:
                raise
            except Exception as error:  # whatever a module raises for a size that it does not like
                problem = error
            else:
                return trace.found
        raise ModelError(f"{self.name}: it cannot be run: {problem}") from problem

    def _run(self, step: FramePass, x: Tensor) -> Tensor | None:
        """Run the network; None where the pass ends before the last layer."""
        if x.shape[0] != 1:
            raise ValueError(f"{self.name}: {x.shape[0]} windows at once; statistics need one")
        try:
            with torch.no_grad(), LonePixels(), step:
                logits: Tensor = self.module(x)
        except Exception as error:
            if step.refused:
                raise ModelError(f"{self.name}: {step.refused}") from error
            # TorchScript makes another error of `Collected`.
            if isinstance(step, Inject) and step.collected:
                return None
            raise
        return logits

    def _answers(self, found: Sequence[Array]) -> list[Array | None]:
        """The statistics that are known, one for each time that the network asks."""
        parts = {}
        for number, flat in enumerate(found):
            shapes = [statistic.shape for level, statistic in self._asked if level == number]
            parts[number] = _cut(flat, shapes)
        return [parts[level].pop(0) if level in parts else None for level, _ in self._asked]


class _Windowed(nn.Module):
    """A network with statistics that do not matter."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        x = x.detach()
        with Neutral(x):
            logits: Tensor = self.module(x)
        return logits


def _cut(flat: Array, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Cut a row of numbers into arrays."""
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    if len(flat) != ends[-1]:
        raise ValueError(f"{len(flat)} numbers, where {ends[-1]} are expected")
    return [part.reshape(s) for part, s in zip(np.split(flat, ends[:-1]), shapes, strict=True)]


def _first_convolution(module: nn.Module, name: str) -> tuple[int, int]:
    """Channels and axes of space of the first convolution."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Conv3d):
            return part.in_channels, len(part.kernel_size)
    raise ModelError(f"{name}: it has no convolution that tells its channels. State in_channels.")
