"""The regular grid of seeds of a frame, and of cells in which centres are looked up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.box import Box

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Lattice:
    """Cells that fill a frame, with one seed in the middle of each.

    Parameters
    ----------
    shape : tuple of int
        Of the frame.
    counts : tuple of int
        Cells along each axis.
    size : float
        The wanted side S of a cell, in units of `spacing`.
    spacing : tuple of float
        Of the pixels along each axis.
    """

    shape: tuple[int, ...]
    counts: tuple[int, ...]
    size: float
    spacing: tuple[float, ...]

    @classmethod
    def of_size(
        cls, shape: tuple[int, ...], size: float, spacing: tuple[float, ...] | None
    ) -> Lattice:
        """The lattice whose cells come closest to a side."""
        steps = spacing or (1.0,) * len(shape)
        counts = tuple(
            min(n, max(1, round(n * d / size))) for n, d in zip(shape, steps, strict=True)
        )
        return cls(shape, counts, size, steps)

    @classmethod
    def of_count(
        cls, shape: tuple[int, ...], count: int, spacing: tuple[float, ...] | None
    ) -> Lattice:
        """The lattice with about so many cells."""
        steps = spacing or (1.0,) * len(shape)
        volume = math.prod(n * d for n, d in zip(shape, steps, strict=True))
        return cls.of_size(shape, (volume / count) ** (1 / len(shape)), steps)

    @property
    def cells(self) -> int:
        return math.prod(self.counts)

    @property
    def cell_px(self) -> float:
        """Mean number of pixels of a cell."""
        return math.prod(self.shape) / self.cells

    @property
    def per_step(self) -> NDArray[np.float64]:
        """1 / S along each axis, in 1/px; shape (3,), planes without a neighbour first."""
        return np.array([0.0] * (3 - len(self.shape)) + [d / self.size for d in self.spacing])

    @property
    def reach_px(self) -> NDArray[np.float64]:
        """Half the side of a centre's window along each axis: S, or a cell's side if larger."""
        found = [
            max(self.size / d, n / count)
            for d, n, count in zip(self.spacing, self.shape, self.counts, strict=True)
        ]
        return np.array([0.0] * (3 - len(self.shape)) + found)

    def seeds(self, box: Box) -> tuple[IntArray, IntArray]:
        """Numbers (n,) in raster order, and pixels (n, ndim), of the seeds in a box."""
        axes, numbers = [], []
        for n, count, a, b in zip(self.shape, self.counts, box.start, box.stop, strict=True):
            middles = (2 * np.arange(count, dtype=np.int64) + 1) * n // (2 * count)
            inside = (middles >= a) & (middles < b)
            axes.append(middles[inside])
            numbers.append(np.flatnonzero(inside))
        places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(self.shape))
        return self._numbers(numbers).reshape(-1), places

    def homes(self, box: Box) -> tuple[IntArray, list[IntArray]]:
        """Cells that share pixels with a box.

        Returns
        -------
        numbers : ndarray, int64, one axis an axis of the frame
            Of these cells.
        lengths : list of ndarray, int64
            How many pixels of the box each of them has along each axis.
        """
        ranges, lengths = [], []
        for n, count, a, b in zip(self.shape, self.counts, box.start, box.stop, strict=True):
            cells = np.arange(a, b, dtype=np.int64) * count // n
            ranges.append(np.arange(cells[0], cells[-1] + 1))
            lengths.append(np.bincount(cells - cells[0]))
        return self._numbers(ranges), lengths

    def cells_of(self, places: NDArray[Any]) -> IntArray:
        """Numbers of the cells that hold some places, (n, ndim) -> (n,)."""
        number = np.zeros(len(places), np.int64)
        for axis, count in enumerate(self.counts):
            number = number * count + self._along(axis, places[:, axis])
        return number

    def runs_near(self, box: Box) -> tuple[IntArray, int]:
        """Runs of cells that hold all places from which a pixel of a box may be reached.

        Returns
        -------
        first : ndarray of shape (n,), int64
            Number of the first cell of each run.
        length : int
            Cells a run.
        """
        # A pixel more: whether a place on the very limit reaches is decided in one place only.
        reach = self.reach_px[3 - len(self.shape) :] + 1
        ranges = []
        for axis in range(len(self.shape)):
            ends = np.array([box.start[axis] - reach[axis], box.stop[axis] - 1 + reach[axis]])
            first, last = self._along(axis, ends)
            ranges.append(np.arange(first, last + 1))
        return self._numbers([*ranges[:-1], ranges[-1][:1]]).reshape(-1), len(ranges[-1])

    def _along(self, axis: int, places: NDArray[Any]) -> IntArray:
        """Cells along an axis; those of places outside are the outermost."""
        count = self.counts[axis]
        cells = np.floor(places * (count / self.shape[axis])).astype(np.int64)
        return np.clip(cells, 0, count - 1)

    def _numbers(self, ranges: list[IntArray]) -> IntArray:
        number = np.zeros((), np.int64)
        for cells, count in zip(ranges, self.counts, strict=True):
            number = number[..., None] * count + cells
        return number
