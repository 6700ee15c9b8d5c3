"""The region adjacency graph: whole numbers that add up over tiles, and weights made of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Record

Longs = NDArray[np.int64]
Floats = NDArray[np.float64]

Weight = Literal["mean_color", "boundary"]

#: Prefix of a graph's arrays in records and states.
PREFIX = "graph."


@dataclass(frozen=True, slots=True)
class RegionGraph:
    """Regions and the borders between them.

    Parameters
    ----------
    number : ndarray of shape (N,), int64
        Of each region, ascending: labels of the fragments.
    count : ndarray of shape (N,), int64
        Pixels.
    sums, squares : ndarray of shape (N, C), int64
        Of the channels' values and their squares, in steps.
    a, b : ndarray of shape (E,), int64
        Numbers of two regions that touch, a < b, sorted.
    length : ndarray of shape (E,), int64
        Pairs of neighbouring pixels between them.
    total : ndarray of shape (E,), int64
        Sum of the boundary values of both pixels of all pairs, in steps.
    offset, step : ndarray of shape (C + 1,), float64
        value = offset + step * steps, of each channel and, last, of the boundary.
    """

    number: Longs
    count: Longs
    sums: Longs
    squares: Longs
    a: Longs
    b: Longs
    length: Longs
    total: Longs
    offset: Floats
    step: Floats

    @classmethod
    def of(cls, record: Record) -> RegionGraph:
        """A graph out of a record or state."""
        names = cls.__slots__
        return cls(**{name: record[PREFIX + name] for name in names})

    def record(self) -> Record:
        """The graph as arrays for a record or state."""
        return {PREFIX + name: getattr(self, name) for name in self.__slots__}

    @property
    def ends(self) -> tuple[Longs, Longs]:
        """Places, among the regions, of both ends of every edge."""
        return np.searchsorted(self.number, self.a), np.searchsorted(self.number, self.b)

    def means(self) -> Floats:
        """Mean value of every region, shape (N, C)."""
        steps = self.sums / np.maximum(self.count, 1)[:, None]
        return np.asarray(self.offset[:-1] + self.step[:-1] * steps, np.float64)

    def variances(self) -> Floats:
        """Variance of the values of every region, shape (N, C)."""
        n = np.maximum(self.count, 1)[:, None]
        spread = self.squares / n - (self.sums / n) ** 2
        return np.asarray(np.maximum(spread, 0.0) * self.step[:-1] ** 2, np.float64)

    def boundary_means(self) -> Floats:
        """Mean boundary value along every edge, shape (E,)."""
        steps = self.total / (2.0 * np.maximum(self.length, 1))
        return np.asarray(self.offset[-1] + self.step[-1] * steps, np.float64)

    def weights(self, weight: Weight) -> Floats:
        """Weight of every edge, shape (E,).

        "mean_color": Euclidean distance of the mean values; "boundary": the mean boundary value.
        """
        if weight == "boundary":
            return self.boundary_means()
        means = self.means()
        i, j = self.ends
        square = np.zeros(len(self.a))
        for c in range(means.shape[1]):  # channel by channel: a fixed order of additions
            square += (means[i, c] - means[j, c]) ** 2
        return np.sqrt(square)


def merge_graphs(records: Iterable[Record]) -> Record:
    """One graph of the parts that tiles have seen."""
    parts = [RegionGraph.of(record) for record in records]
    number, (count, sums, squares) = _added(
        [np.concatenate([p.number for p in parts])],
        [np.concatenate([getattr(p, key) for p in parts]) for key in ("count", "sums", "squares")],
    )
    ends, (length, total) = _added(
        [np.concatenate([getattr(p, key) for p in parts]) for key in ("a", "b")],
        [np.concatenate([getattr(p, key) for p in parts]) for key in ("length", "total")],
    )
    first = parts[0]
    return RegionGraph(
        number[0], count, sums, squares, ends[0], ends[1], length, total, first.offset, first.step
    ).record()


def _added(keys: list[Longs], columns: list[Any]) -> tuple[list[Longs], list[Any]]:
    """Add up the rows of equal keys, in the order of the keys."""
    if len(keys[0]) == 0:
        return keys, columns
    order = np.lexsort(keys[::-1])
    keys = [key[order].astype(np.int64, copy=False) for key in keys]
    apart = np.zeros(len(order), np.bool_)
    apart[0] = True
    for key in keys:
        apart[1:] |= key[1:] != key[:-1]
    heads = np.flatnonzero(apart)
    added = [np.add.reduceat(c[order].astype(np.int64, copy=False), heads) for c in columns]
    return [key[heads] for key in keys], added
