"""The watershed of open regions as a fixed point over tiles.

Every pixel has one key (level, hops), see `pipeline.kernels.flood`. Tiles compute the keys of their
cores from their own markers and from the keys of the ring around them. Keys only ever fall and have
one fixed point: those of the untiled image. Then each pixel follows its predecessors to a marker,
or to a pixel of the ring, which belongs to a piece of a neighbour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.grid import TileGrid
from pipeline.kernels.flood import Heights, Sources, flood, flood_keys
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
    values: ClassVar[int] = 2

    def on_faces(self, view: TileView, state: State, pixels: Longs) -> Ints:
        altitude, region, sources, _ = _core_to_flood(self.landscape, view, state)
        level, hops = flood_keys(altitude, region, sources, self.landscape.connectivity, pixels)
        return np.stack([level.view(np.int32), hops])


@dataclass(frozen=True)
class Resolve(EmittingRound):
    """Give every pixel to a marker, or to the ring's pixel that it was reached from."""

    landscape: Landscape

    name: ClassVar[str] = "resolve"
    done: ClassVar[str] = RESOLVED

    def tiles(self, grid: TileGrid, state: State) -> Sequence[int]:
        return [int(n) for n in open_tiles(state)]

    def map(self, view: TileView, state: State) -> Output:
        altitude, region, sources, own = _core_to_flood(self.landscape, view, state)
        source = flood(altitude, region, sources, self.landscape.connectivity)
        del altitude, region  # a core is large
        window = view.window(1)
        # Pixels of the ring have numbers below 0 for keys, and become links.
        ring = np.arange(len(own.pixel), len(sources.pixel))
        marked = Marked(sources.pixel, np.concatenate([own.key, -1 - ring]))
        core = view.tile.core.within(window)
        labels, keys = marked.labels(np.ascontiguousarray(source[core]))
        del source
        from_ring = keys < 0
        reached = linear_indices(view, window, sources.pixel[-1 - keys[from_ring]])
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


def _core_to_flood(
    landscape: Landscape, view: TileView, state: State
) -> tuple[Heights, Ints, Sources, Marked]:
    """Altitude, regions and sources of a core in a window with a ring of 1 px.

    The sources are the core's markers, which come back too, and behind them those pixels of the
    ring whose keys are known.
    """
    altitude = view.scratch.get(RING_ALTITUDE, view.tile.number)
    region = view.scratch.get(RING_REGION, view.tile.number)
    core = view.tile.core.within(view.window(1))
    own = own_markers(landscape, view, state)
    ring, (levels, hops) = Relax.ring(view, state)
    beside = region.reshape(-1)[ring]
    wanted = (hops >= 0) & (beside > 0)
    # A ring pixel without a key is a wall: were it flooded from here, the key that its owner gives
    # it later could be higher, keys would not only fall, and tiles could swing for ever.
    for axis, (first, last) in enumerate(zip(core, region.shape, strict=True)):
        for rim in (slice(0, first.start), slice(first.stop, last)):
            region[(slice(None),) * axis + (rim,)] = 0
    ring, levels, hops = ring[wanted], levels[wanted].view(altitude.dtype), hops[wanted]
    region.reshape(-1)[ring] = beside[wanted]
    markers = Sources.markers(own.pixel, altitude)
    both = Sources(
        np.concatenate([markers.pixel, ring]),
        np.concatenate([markers.level, levels]),
        np.concatenate([markers.hops, hops]),
    )
    return altitude, region, both, own
