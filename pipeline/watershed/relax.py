"""The watershed of open regions as a fixed point over tiles.

Every pixel has one key (level, hops), see `pipeline.kernels.flood`. Tiles flood their cores from
their own markers, then lower the keys from the ring around them. Keys only ever fall and have one
fixed point: those of the untiled image. Then each pixel follows its predecessors to a marker, or to
a pixel of the ring, which belongs to a piece of a neighbour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.grid import TileGrid
from pipeline.kernels.flood import Sources, flood_keys
from pipeline.kernels.lowering import UNREACHED, trace
from pipeline.kernels.ordering import ordered_int32
from pipeline.kernels.relabel import occurring, relabel
from pipeline.methods.base import EmittingRound, Output, State, TileLabels
from pipeline.places import linear_indices
from pipeline.view import TileView
from pipeline.watershed.fixed_point import FixedPoint
from pipeline.watershed.flood import WHOLE_KEYS, WHOLE_LABELS, keys_of
from pipeline.watershed.landscape import Landscape
from pipeline.watershed.markers import Marked
from pipeline.watershed.open import RING_ALTITUDE, RING_REGION, open_tiles
from pipeline.watershed.open_markers import own_markers

RESOLVED = "watershed.resolved"

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]


@dataclass(frozen=True)
class Relax(FixedPoint):
    """Flood the open regions of the cores."""

    landscape: Landscape

    name: ClassVar[str] = "relax"
    key: ClassVar[str] = "watershed.keys"
    climb: ClassVar[int] = 1

    @property
    def connectivity(self) -> int:
        return self.landscape.connectivity

    def landscape_of(self, view: TileView) -> tuple[Ints, Ints]:
        altitude = view.scratch.get(RING_ALTITUDE, view.tile.number)
        return ordered_int32(altitude), view.scratch.get(RING_REGION, view.tile.number)

    def first_keys(self, view: TileView, state: State) -> Longs:
        altitude = view.scratch.get(RING_ALTITUDE, view.tile.number)
        region = view.scratch.get(RING_REGION, view.tile.number)
        core = view.tile.core.within(view.window(1))
        # The ring is a wall: its keys are its owners' to find.
        inside = np.zeros_like(region)
        inside[core] = region[core]
        own = own_markers(self.landscape, view, state)
        sources = Sources.markers(own.pixel, altitude)
        return flood_keys(altitude, inside, sources, self.connectivity)


@dataclass(frozen=True)
class Resolve(EmittingRound):
    """Give every pixel to a marker, or to the ring's pixel that it was reached from."""

    landscape: Landscape

    name: ClassVar[str] = "resolve"
    done: ClassVar[str] = RESOLVED

    def tiles(self, grid: TileGrid, state: State) -> Sequence[int]:
        return [int(n) for n in open_tiles(state)]

    def map(self, view: TileView, state: State) -> Output:
        window = view.window(1)
        altitude = ordered_int32(view.scratch.get(RING_ALTITUDE, view.tile.number))
        region = view.scratch.get(RING_REGION, view.tile.number)
        own = own_markers(self.landscape, view, state)
        ring, known = Relax.ring(view, state)
        ring = ring[known != UNREACHED]
        sources = np.concatenate([own.pixel, ring])
        inner = view.tile.core.relative_to(window.start)
        source = trace(
            Relax.keys(view, state),
            altitude,
            region,
            sources,
            inner,
            self.landscape.connectivity,
        )
        del altitude, region  # a core is large
        # Pixels of the ring have numbers below 0 for keys, and become links.
        outside = np.arange(len(own.pixel), len(sources))
        marked = Marked(sources, np.concatenate([own.key, -1 - outside]))
        labels, keys = marked.labels(np.ascontiguousarray(source[inner.slices]))
        del source
        from_ring = keys < 0
        reached = linear_indices(view, window, sources[-1 - keys[from_ring]])
        links = np.stack([np.flatnonzero(from_ring) + 1, reached], axis=1)
        opened = TileLabels(labels, keys=np.maximum(keys, -1), links=links)
        return Output({}, self._with_whole(view, opened))

    def _with_whole(self, view: TileView, opened: TileLabels) -> TileLabels:
        """Add the components of this core that a window held whole."""
        whole = view.scratch.get(WHOLE_LABELS, view.tile.number)
        keys = view.scratch.get(WHOLE_KEYS, view.tile.number).astype(np.int64, copy=False)
        labels = opened.labels
        free = labels == 0
        found = np.flatnonzero(occurring(whole * free, len(keys) + 1))
        found = found[found > 0]
        number = np.zeros(len(keys) + 1, np.uint32)
        number[found] = np.arange(1, len(found) + 1) + int(labels.max(initial=0))
        np.copyto(labels, relabel(whole, number), where=free)
        return TileLabels(
            labels, keys=np.concatenate([keys_of(opened), keys[found - 1]]), links=opened.links
        )
