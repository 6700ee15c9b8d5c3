"""Which shards of an image share blocks of its file, so that no block is unpacked twice.

A file stores pixels in blocks: tiles, strips, whole planes, a whole JPEG. A block that several
shards need is unpacked once if one order writes them one after the other and keeps what the next
one needs. Shards are therefore put into groups that end where a border of blocks meets a border of
shards. What must be kept may be more than the memory; then an order reads as many shards in one go
as fit, and blocks are unpacked once for each of its reads.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.image import ImageInfo
from pipeline.pyramid import Pyramid
from pipeline.sources.seen import PLAIN, Seen

#: Rows of shards in one group at most, where borders never meet: more would leave the work of a
#: cluster to one worker. The blocks on the border of two such groups are unpacked twice.
MOST_ROWS = 16
#: What an order may keep.
HOLD_LIMIT_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis of an image: its size, the sides of a shard and of a block in px, and how many
    shards may hang together at most.
    """

    size: int
    shard: int
    block: int
    most: int

    @property
    def spans(self) -> list[range]:
        """Shards that hang together by blocks, as positions along this axis."""
        count = -(-self.size // self.shard)
        first, found = 0, []
        for end in range(1, count + 1):
            if end == count or end * self.shard % self.block == 0 or end - first == self.most:
                found.append(range(first, end))
                first = end
        return found

    @property
    def shares(self) -> bool:
        """Whether any block belongs to two shards."""
        return any(len(span) > 1 for span in self.spans)

    @property
    def reach(self) -> int:
        """Largest extent in px of the blocks that one shard meets."""
        starts = range(0, self.size, self.shard)
        return max(
            min(self.size, -(-min(self.size, a + self.shard) // self.block) * self.block)
            - a // self.block * self.block
            for a in starts
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """How the shards of an image are read.

    Parameters
    ----------
    groups : tuple of tuple of int
        Shards that one order writes, in this order.
    hold_bytes : int
        Unpacked blocks that are kept from one read to the next; 0 for what a source keeps anyway.
    together : bool
        All shards of a group are read in one go.
    """

    groups: tuple[tuple[int, ...], ...]
    hold_bytes: int = 0
    together: bool = False

    def batches(self, todo: Sequence[int], size: int) -> Iterator[tuple[int, ...]]:
        """Orders for the shards that are left: whole groups, as many as `size` shards hold."""
        left, batch = set(todo), list[int]()
        for group in self.groups:
            chosen = [number for number in group if number in left]
            if batch and (self.together or self.hold_bytes or len(batch) + len(chosen) > size):
                yield tuple(batch)
                batch = []
            batch += chosen
        if batch:
            yield tuple(batch)


def plan_reading(pyramid: Pyramid, room_bytes: int, seen: Seen = PLAIN) -> Reading:
    """Group the shards of an image for an order that may keep `room_bytes`.

    Where `seen` makes one plane of many, all of them pass before a block is wanted again: nothing
    that is kept would last so long, and shards are read together.
    """
    grid, info = pyramid.grid(), pyramid.info
    each = tuple((number,) for number in range(len(grid)))
    if not info.packed or math.prod(info.chunks) == 1:
        return Reading(each)
    axes = _axes(info, pyramid)
    need = _kept_bytes(info, axes)
    if not need:
        return Reading(each)
    room = min(room_bytes, HOLD_LIMIT_BYTES)
    if need <= room and not seen.folds:
        return Reading(tuple(_groups(axes, pyramid)), need)
    size = np.dtype(info.dtype).itemsize
    pixel = info.shape[1] * (size + seen.fold_bytes(size))
    return Reading(tuple(_boxes(pyramid, room // pixel)), 0, True)


def _axes(info: ImageInfo, pyramid: Pyramid) -> tuple[_Axis, _Axis, _Axis, _Axis]:
    """T, Z, Y and X; in 2D a shard is one plane deep."""
    times, _, depth, height, width = info.shape
    kt, _, kz, ky, kx = info.chunks
    sz, sy, sx = pyramid.shard_side
    return (
        _Axis(times, 1, kt, times),
        _Axis(depth, sz if pyramid.ndim == 3 else 1, kz, depth),
        _Axis(height, sy, ky, max(MOST_ROWS, -(-ky // sy))),
        _Axis(width, sx, kx, width),
    )


def _kept_bytes(info: ImageInfo, axes: Sequence[_Axis]) -> int:
    """Upper bound of what must be kept so that each block is unpacked once; 0 for nothing.

    Shards are visited in raster order, and the blocks used last are kept: until a block is wanted
    again, the rest of a row of shards passes, or of a slab, and one shard with all its channels.
    """
    t, z, y, x = axes
    one = z.reach * y.reach * x.reach
    kept = 0
    if info.chunks[2] > 1 or y.shares:  # a block is wanted again for each of its planes
        kept = 2 * one
    if x.shares:
        kept = z.reach * y.reach * x.size + one
    if z.shares:
        kept = z.reach * _span_px(y) * _span_px(x) + one
    if t.shares:
        kept = t.reach * _span_px(z) * _span_px(y) * _span_px(x) + one
    pixel = info.shape[1] * np.dtype(info.dtype).itemsize
    return min(kept, math.prod(info.shape) // info.shape[1]) * pixel


def _span_px(axis: _Axis) -> int:
    """Extent of the largest group along an axis, its blocks included."""
    most = max(len(span) for span in axis.spans)
    return min(axis.size, most * axis.shard + axis.reach - min(axis.reach, axis.shard))


def _groups(axes: Sequence[_Axis], pyramid: Pyramid) -> Iterator[tuple[int, ...]]:
    t, z, y, x = axes
    grid = pyramid.grid()
    *_, rows, columns = grid.counts
    deep = -(-z.size // z.shard)
    for spans in itertools.product(t.spans, z.spans, y.spans, x.spans):
        yield tuple(
            ((a * deep + b) * rows + c) * columns + d for a, b, c, d in itertools.product(*spans)
        )


def _boxes(pyramid: Pyramid, room_px: int) -> Iterator[tuple[int, ...]]:
    """Shards side by side in one frame and one row or slab, as many as may be read in one go."""
    grid = pyramid.grid()
    *deep, rows, columns = grid.counts
    most = max(1, room_px // math.prod(grid.side))
    wide = min(columns, most)
    tall = max(1, min(rows, most // wide)) if wide == columns else 1
    slabs = range(grid.frames * math.prod(deep))
    for slab, top, left in itertools.product(slabs, range(0, rows, tall), range(0, columns, wide)):
        yield tuple(
            (slab * rows + row) * columns + column
            for row in range(top, min(rows, top + tall))
            for column in range(left, min(columns, left + wide))
        )
