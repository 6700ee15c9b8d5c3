"""The table of overlaps: how many pixels every pair of a true object and a label shares.

The table of a tile comes from runs of equal pairs along its rows. Tables add up: tiles of any size,
in any order, give the same rows with the same whole numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Numbers = NDArray[np.uint64]

#: Rows that wait to be summed up.
WAITING_ROWS = 4_000_000


@dataclass(frozen=True, slots=True)
class Side:
    """The regions of one side of the table, background included.

    Parameters
    ----------
    frame : ndarray of shape (n,), int64
    number : ndarray of shape (n,), uint64
        The label; 0 is background. Sorted by frame, then number.
    pixels : ndarray of shape (n,), int64
        px
    of_row : ndarray of shape (rows,), int64
        Which region a row of the table belongs to.
    """

    frame: Ints
    number: Numbers
    pixels: Ints
    of_row: Ints

    @property
    def count(self) -> int:
        """Objects: regions that are not background."""
        return int(np.count_nonzero(self.number))

    @property
    def pixels_of_row(self) -> Ints:
        """Size of the region of every row, px."""
        return self.pixels[self.of_row]


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Pixels that share a frame, a true object and a label; sorted by them, each once.

    Parameters
    ----------
    frame : ndarray of shape (n,), int64
        Objects never cross frames: equal numbers in two frames are two objects.
    truth, label : ndarray of shape (n,), uint64
        0 is background.
    pixels : ndarray of shape (n,), int64
        px, more than 0
    """

    frame: Ints
    truth: Numbers
    label: Numbers
    pixels: Ints

    @classmethod
    def empty(cls) -> Self:
        none = np.empty(0, np.int64)
        return cls(none, none.astype(np.uint64), none.astype(np.uint64), none)

    @classmethod
    def of_tile(cls, frame: int, truth: NDArray[Any], labels: NDArray[Any]) -> Self:
        """Count one tile.

        Parameters
        ----------
        frame : int
        truth, labels : ndarray of the same shape, integer
            None negative.
        """
        t, k = np.ascontiguousarray(truth).reshape(-1), np.ascontiguousarray(labels).reshape(-1)
        if not t.size:
            return cls.empty()
        changes = np.flatnonzero((t[1:] != t[:-1]) | (k[1:] != k[:-1])) + 1
        starts = np.concatenate([[0], changes])
        pixels = np.diff(np.append(starts, t.size))
        frames = np.full(len(starts), frame, np.int64)
        return cls._summed(frames, t[starts].astype(np.uint64), k[starts].astype(np.uint64), pixels)

    @classmethod
    def sum(cls, parts: Iterable[Overlaps]) -> Self:
        """Add up tables; at most `WAITING_ROWS` rows of them wait beside the sum."""
        total, waiting, rows = cls.empty(), list[Overlaps](), 0
        for part in parts:
            waiting.append(part)
            rows += len(part.pixels)
            if rows > max(WAITING_ROWS, len(total.pixels)):
                total, waiting, rows = cls._joined([total, *waiting]), [], 0
        return cls._joined([total, *waiting])

    @classmethod
    def _joined(cls, parts: Sequence[Overlaps]) -> Self:
        return cls._summed(
            np.concatenate([part.frame for part in parts]),
            np.concatenate([part.truth for part in parts]),
            np.concatenate([part.label for part in parts]),
            np.concatenate([part.pixels for part in parts]),
        )

    @classmethod
    def _summed(cls, frame: Ints, truth: Numbers, label: Numbers, pixels: Ints) -> Self:
        if not len(pixels):
            return cls.empty()
        order = np.lexsort((label, truth, frame))
        frame, truth, label = frame[order], truth[order], label[order]
        new = np.ones(len(order), bool)
        new[1:] = (frame[1:] != frame[:-1]) | (truth[1:] != truth[:-1]) | (label[1:] != label[:-1])
        first = np.flatnonzero(new)
        sums = np.add.reduceat(pixels[order].astype(np.int64), first)
        return cls(frame[first], truth[first], label[first], sums)

    def inside_truth(self) -> Overlaps:
        """Only pixels of true objects: what scores of partitions judge."""
        kept = self.truth != 0
        return Overlaps(self.frame[kept], self.truth[kept], self.label[kept], self.pixels[kept])

    def truth_side(self) -> Side:
        """The true objects, and the background of every frame."""
        return self._side(self.truth)

    def label_side(self) -> Side:
        """The labels, and the background of every frame."""
        return self._side(self.label)

    def _side(self, number: Numbers) -> Side:
        order = np.lexsort((number, self.frame))
        frame, sorted_number = self.frame[order], number[order]
        new = np.ones(len(order), bool)
        new[1:] = (frame[1:] != frame[:-1]) | (sorted_number[1:] != sorted_number[:-1])
        first = np.flatnonzero(new)
        of_row = np.empty(len(order), np.int64)
        of_row[order] = np.cumsum(new) - 1
        pixels = np.add.reduceat(self.pixels[order], first) if len(first) else self.pixels
        return Side(frame[first], sorted_number[first], pixels, of_row)
