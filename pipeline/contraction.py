"""Felzenszwalb's merging, tile by tile: merge what is certain, and leave the rest to the frame.

The definition. Edges between neighbours are taken in ascending order of their weight w. Two
components A and B are merged if w <= t(A) and w <= t(B), where t(C) = inner(C) + scale / size(C),
and inner is the largest weight merged inside C. Then all edges are taken once more, in the order
of (weight, first pixel, direction), and two components are merged if one is smaller than the least
size.

1. *Ties do not matter to the criterion.* A component is able at weight w if w <= t(C). While edges
   of weight w are taken, one that is able stays so: merging makes inner = w, and t >= w. One that
   is not able never merges again, for neither t nor size change while w grows. So the edges of one
   weight join all components that are able when its turn begins and that they connect, in any
   order.
2. *A rejected edge leaves a component that is final*, the one that is not able. So of several
   edges between two components only the first one matters.
3. *In a tile.* Each component is *known*, up to a weight: until then it is the component of the
   whole frame. An edge of weight w between A and B is merged if both are known at w and able, and
   dropped if one is known and not able. Otherwise it is undecided: it is left, and both components
   are known up to w only. An edge that leaves the tile is left, too, and its component is known up
   to w only, unless it is known and not able. By induction over the edges: a component changes in
   the frame by an edge of the tile, which was decided as in the frame, or by one that was left and
   that ended the knowledge. At its last weight w a component may still merge: by 1 it is able or
   not from the beginning of the turn of w on.
4. *In the frame.* Components of tiles are nodes. All that was merged is merged in the frame, all
   that was dropped is rejected there. Edges that were left touch a node not before the weight up
   to which it is known, and find it as it is in the frame. So taking them in order is the
   definition.
5. *Small components.* Sizes grow only, so an edge between two components that are large enough in
   the tile is rejected; of several edges between two components only the first one matters here,
   too. All others are taken in the frame, in the full order: here ties matter, and places break
   them.

Nothing bounds what is left but the number of pixels and edges: with a scale so large that no
component is ever final, every tile leaves what touches its faces, what touches that, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.features import ColorSpace, smoothed_features
from pipeline.frame_solve import PIECES, SolveFrame, column
from pipeline.grid import linear_indices
from pipeline.kernels.contraction import contract, merge_regions
from pipeline.methods.base import EmittingRound, Output, State
from pipeline.view import TileView

#: Scratch of a tile: its components, and the edges that are left.
FIRST, SIZE, INNER = "contracted-first", "contracted-size", "contracted-inner"
WEIGHT, PLACE, ENDS, OPEN = "left-weight", "left-place", "left-ends", "left-open"


@dataclass(frozen=True)
class Criterion:
    """What is merged, see above; `sigma_px` of the blur before."""

    space: ColorSpace
    sigma_px: float
    scale: float
    min_size_px: int
    connectivity: int


@dataclass(frozen=True)
class Contract(EmittingRound):
    """Merge in every core what is certain; the rest goes to scratch."""

    criterion: Criterion

    name: ClassVar[str] = "contract"
    done: ClassVar[str] = "contraction.contracted"

    def map(self, view: TileView, state: State) -> Output:
        by, window = self.criterion, view.window(1)
        found = contract(
            smoothed_features(view, by.space, by.sigma_px, 1),
            view.valid(1),
            view.tile.core.within(window),
            by.scale,
            by.min_size_px,
            by.connectivity,
        )
        where = (view.tile.frame, view.grid.shape, window)
        place = linear_indices(*where, found.pixel) * (by.connectivity // 2) + found.step
        kept: dict[str, NDArray[Any]] = {
            PIECES: found.labels,
            FIRST: linear_indices(*where, found.first),
            SIZE: found.size,
            INNER: found.inner,
            WEIGHT: found.weight,
            PLACE: place,
            ENDS: found.ends.astype(np.int32),
            OPEN: found.open,
        }
        for name, array in kept.items():
            view.scratch.put(name, view.tile.number, array)
        return Output({})


@dataclass(frozen=True)
class MergeFrame(SolveFrame):
    """Take the edges that are left in the whole frame; a region's key is one of its pixels."""

    criterion: Criterion

    def keys(self, view: TileView, tiles: Sequence[int]) -> Sequence[NDArray[np.int64]]:
        size = column(view, SIZE, tiles)
        offsets = np.cumsum([0, *map(len, size)], dtype=np.int32)
        edges = _edges(view, tiles, offsets)
        order = np.lexsort((edges.place, edges.weight))
        parent = np.arange(offsets[-1], dtype=np.int32)
        merge_regions(
            edges.weight[order],
            edges.ends[order],
            edges.open[order],
            self.criterion.scale,
            self.criterion.min_size_px,
            np.concatenate(size),
            np.concatenate(column(view, INNER, tiles)),
            parent,
        )
        first = np.concatenate(column(view, FIRST, tiles))[parent]
        return np.split(first, offsets[1:-1])


@dataclass(frozen=True, slots=True)
class _Edges:
    """Edges between the nodes of a frame.

    `place` orders edges of one weight: the number of the first pixel and of the direction.
    """

    weight: NDArray[np.float32]
    place: NDArray[np.int64]
    ends: NDArray[np.int32]
    open: NDArray[np.bool_]


def _edges(view: TileView, tiles: Sequence[int], offsets: NDArray[np.int32]) -> _Edges:
    """Edges inside tiles as they are, and those between tiles put together from their halves."""
    nodes = [
        ends + (ends > 0) * offset
        for ends, offset in zip(column(view, ENDS, tiles), offsets, strict=False)
    ]
    ends = np.concatenate(nodes)
    weight = np.concatenate(column(view, WEIGHT, tiles))
    place = np.concatenate(column(view, PLACE, tiles))
    undecided = np.concatenate(column(view, OPEN, tiles))
    inside = (ends > 0).all(axis=1)
    # Both tiles of an edge have left their half of it, under the same place.
    halves = np.flatnonzero(~inside)
    pairs = halves[np.argsort(place[halves])].reshape(-1, 2)
    one, other = pairs[:, 0], pairs[:, 1]
    across = np.stack([ends[one].max(axis=1), ends[other].max(axis=1)], axis=1)
    return _Edges(
        np.concatenate([weight[inside], weight[one]]),
        np.concatenate([place[inside], place[one]]),
        np.concatenate([ends[inside], across]) - 1,
        np.concatenate([undecided[inside], undecided[one] & undecided[other]]),
    )
