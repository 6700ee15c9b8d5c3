"""What a detector finds: candidates of objects, and their masks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Longs = NDArray[np.int64]

#: Scores are whole numbers of steps, so that their order has no last digits.
STEPS = 65536


def quantised(score: NDArray[Any]) -> NDArray[np.int32]:
    """Scores of 0 to 1 in steps of 1 / 65536, to the nearest."""
    return np.rint(np.asarray(score, np.float64) * STEPS).astype(np.int32)


@dataclass(frozen=True, slots=True)
class Table:
    """Arrays with one row an object."""

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    def select(self, index: NDArray[Any]) -> Self:
        """Some of the rows, by number or by a mask."""
        return type(self)(*(getattr(self, f.name)[index] for f in fields(self)))

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """The rows of several, of which there is at least one."""
        columns: list[NDArray[Any]] = []
        for field in fields(cls):
            column: list[NDArray[Any]] = [getattr(part, field.name) for part in parts]
            columns.append(np.concatenate(column))
        return cls(*columns)


@dataclass(frozen=True, slots=True)
class Candidates(Table):
    """Objects that were found, before any was chosen; positions are in the frame.

    Parameters
    ----------
    anchor : ndarray of shape (n, ndim), int64
        The pixel that decides which block owns the object.
    box : ndarray of shape (n, 2 ndim), float32
        Where it begins on every axis, then where it ends.
    score : ndarray of shape (n,), int32
        In steps of 1 / 65536.
    class_id : ndarray of shape (n,), int32
    """

    anchor: Longs
    box: NDArray[np.float32]
    score: NDArray[np.int32]
    class_id: NDArray[np.int32]

    @property
    def probability(self) -> NDArray[np.float32]:
        """The scores, of 0 to 1."""
        return self.score.astype(np.float32) / np.float32(STEPS)

    def packed(self) -> Longs:
        """All columns as one table of shape (n, 3 ndim + 2), for scratch; `unpack` undoes it."""
        box = np.ascontiguousarray(self.box, np.float32).view(np.int32)
        columns: list[NDArray[Any]] = [
            self.anchor,
            box,
            self.score[:, None],
            self.class_id[:, None],
        ]
        return np.concatenate(columns, axis=1, dtype=np.int64)

    @classmethod
    def unpack(cls, table: Longs) -> Candidates:
        ndim = (table.shape[1] - 2) // 3
        box = np.ascontiguousarray(table[:, ndim:-2], np.int32).view(np.float32)
        score, class_id = table[:, -2:].T.astype(np.int32)
        return cls(np.ascontiguousarray(table[:, :ndim]), box, score, class_id)

    def rank(self, index: Longs) -> Longs:
        """Place of each row in the order of suppression: 0 is the first.

        The order is (score, highest first; class; anchor in raster order; `index`). `index` tells
        rows of one anchor apart: their number in the list of the block that owns them all.
        """
        raster = tuple(self.anchor.T[::-1])
        order = np.lexsort((index, *raster, self.class_id, -self.score))
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        return rank


@dataclass(frozen=True, slots=True)
class Masks:
    """Masks of objects, each cut to its own box, a bit a pixel.

    Parameters
    ----------
    start, shape : ndarray of shape (n, ndim), int64
        Where in the frame the cut begins, and its size.
    bits : ndarray of shape (bytes,), uint8
        The masks, one behind the other; each begins with a byte of its own.
    """

    start: Longs
    shape: Longs
    bits: NDArray[np.uint8]

    @classmethod
    def of(cls, start: Longs, masks: Sequence[NDArray[np.bool_]]) -> Masks:
        """Pack boolean masks that begin at `start`."""
        ndim = start.shape[1]
        shape = np.array([m.shape for m in masks], np.int64).reshape(-1, ndim)
        packed = [np.packbits(mask.reshape(-1)) for mask in masks]
        return cls(start, shape, np.concatenate([np.empty(0, np.uint8), *packed]))

    def __len__(self) -> int:
        return len(self.start)

    @property
    def stop(self) -> Longs:
        return self.start + self.shape

    @property
    def offsets(self) -> Longs:
        """First byte of each mask, and the end of the last one; shape (n + 1,)."""
        sizes = -(-self.shape.prod(axis=1) // 8)
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def select(self, index: Longs) -> Masks:
        """Some of the masks, by number."""
        offsets = self.offsets
        bits = [self.bits[offsets[i] : offsets[i + 1]] for i in index]
        joined = np.concatenate([np.empty(0, np.uint8), *bits])
        return Masks(self.start[index], self.shape[index], joined)

    def unpacked(self) -> Iterator[NDArray[np.bool_]]:
        """The masks, each of its own shape."""
        for (a, b), shape in zip(itertools.pairwise(self.offsets), self.shape, strict=True):
            flat = np.unpackbits(self.bits[a:b], count=int(shape.prod()))
            yield flat.view(np.bool_).reshape(tuple(shape))

    @classmethod
    def concatenate(cls, parts: Sequence[Masks]) -> Masks:
        return cls(
            np.concatenate([p.start for p in parts]),
            np.concatenate([p.shape for p in parts]),
            np.concatenate([p.bits for p in parts]),
        )


@dataclass(frozen=True, slots=True)
class Detections:
    """Candidates and, row for row, their masks."""

    candidates: Candidates
    masks: Masks

    def __len__(self) -> int:
        return len(self.candidates)

    def select(self, index: Longs) -> Detections:
        return Detections(self.candidates.select(index), self.masks.select(index))

    @classmethod
    def concatenate(cls, parts: Sequence[Detections]) -> Detections:
        """The rows of several, of which there is at least one."""
        return cls(
            Candidates.concatenate([part.candidates for part in parts]),
            Masks.concatenate([part.masks for part in parts]),
        )

    @property
    def start(self) -> NDArray[np.float64]:
        """Where box and mask begin, whichever is first; shape (n, ndim)."""
        ndim = self.masks.start.shape[1]
        return np.minimum(self.candidates.box[:, :ndim].astype(np.float64), self.masks.start)

    @property
    def stop(self) -> NDArray[np.float64]:
        """Where box and mask end, whichever is last; shape (n, ndim)."""
        ndim = self.masks.start.shape[1]
        return np.maximum(self.candidates.box[:, ndim:].astype(np.float64), self.masks.stop)


def no_detections(ndim: int) -> Detections:
    """An empty list."""
    empty = np.empty((0, ndim), np.int64)
    boxes = np.empty((0, 2 * ndim), np.float32)
    numbers = np.empty(0, np.int32)
    return Detections(Candidates(empty, boxes, numbers, numbers), Masks.of(empty, []))
