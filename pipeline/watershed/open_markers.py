"""Markers of components that no window held whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.box import Box
from pipeline.grid import TileGrid
from pipeline.join import contacts
from pipeline.kernels.components import components
from pipeline.kernels.lowering import keys_at, levels_of
from pipeline.kernels.ordering import from_ordered, ordered_int32
from pipeline.kernels.reconstruction import reconstruct
from pipeline.kernels.relabel import first_pixels, occurring
from pipeline.kernels.unionfind import DisjointSets
from pipeline.methods.base import Output, Round, State
from pipeline.pieces import faces_of
from pipeline.places import flat_in_window, linear_indices
from pipeline.records import Record
from pipeline.view import TileView
from pipeline.watershed.fixed_point import FixedPoint
from pipeline.watershed.landscape import Landscape
from pipeline.watershed.markers import (
    GridMarkers,
    Heights,
    Marked,
    PeakMarkers,
    ZoneMarkers,
    given_in_window,
)
from pipeline.watershed.open import (
    HEIGHTS_KEPT,
    PEAKS,
    RING_ALTITUDE,
    RING_REGION,
    FindPeaks,
    KeepHeights,
    open_tiles,
)
from pipeline.watershed.open_cells import FindLowest

ZONE_TILE = "watershed.zone.tile"
ZONE_NUMBER = "watershed.zone.number"
#: Key of the marker that a tile's zone is a part of; -1 where it is none.
ZONE_KEY = "watershed.zone.key"

#: Scratch arrays: zones of the core, numbered from 1; their keys as far as the core knows them.
ZONES = "watershed-zones"
ZONE_KEYS = "watershed-zone-keys"

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]


def markers_round(landscape: Landscape, grid: TileGrid, state: State) -> Round | None:
    """The next round of finding markers; None when `own_markers` knows them all."""
    markers = landscape.height_markers
    if isinstance(markers, PeakMarkers):
        return None if PEAKS in state else FindPeaks(landscape, grid)
    if isinstance(markers, GridMarkers):
        return None if PEAKS in state else FindLowest(landscape, grid, markers)
    if HEIGHTS_KEPT not in state:
        return KeepHeights(landscape)
    if not isinstance(markers, ZoneMarkers) or ZONE_KEY in state:
        return None
    if markers.fills and not Fill.is_done(state):
        return Fill(grid, landscape, markers)
    return MarkZones(grid, landscape, markers)


def own_markers(landscape: Landscape, view: TileView, state: State) -> Marked:
    """Markers in a core, by raster index in the window of 1 px around it."""
    markers = landscape.markers
    window = view.window(1)
    core = view.tile.core.within(window)
    inside = np.zeros(window.shape, np.int32)
    inside[core] = 1
    if isinstance(markers, PeakMarkers | GridMarkers):
        linear = _in_rows(view, window, state[PEAKS].astype(np.int64, copy=False))
        pixel, chosen = flat_in_window(view, window, linear)
        key = linear[chosen]
    elif isinstance(markers, ZoneMarkers):
        zones = view.scratch.get(ZONES, view.tile.number)
        keys = view.scratch.get(ZONE_KEYS, view.tile.number).astype(np.int64)
        mine = state[ZONE_TILE] == view.tile.number
        keys[state[ZONE_NUMBER][mine]] = state[ZONE_KEY][mine]
        inside[core] = zones
        pixel = np.flatnonzero(inside)
        key = keys[inside.reshape(-1)[pixel]]
        return Marked(pixel[key >= 0], key[key >= 0])
    else:
        region = view.scratch.get(RING_REGION, view.tile.number)
        marked = given_in_window(markers, view, 1, region)
        pixel, key = marked.pixel, marked.key
    here = inside.reshape(-1)[pixel] > 0
    return Marked(pixel[here], key[here])


def _in_rows(view: TileView, window: Box, linear: Longs) -> Longs:
    """Those of sorted linear indices that lie in the planes, or rows, of a window."""
    whole = view.grid.frame_box
    size = whole.size // whole.shape[0]
    ends = view.tile.frame * whole.size + np.array([window.start[0], window.stop[0]]) * size
    first, last = np.searchsorted(linear, ends)
    return linear[first:last]


@dataclass(frozen=True)
class Fill(FixedPoint):
    """Fill the landscape of the open regions, for h-minima."""

    landscape: Landscape
    markers: ZoneMarkers

    name: ClassVar[str] = "fill"
    key: ClassVar[str] = "watershed.fill"
    climb: ClassVar[int] = 0

    @property
    def connectivity(self) -> int:
        return self.landscape.connectivity

    def landscape_of(self, view: TileView) -> tuple[Ints, Ints]:
        height, region = _ring_heights(view)
        return upside_down(height), region

    def first_keys(self, view: TileView, state: State) -> Longs:
        height, region = _ring_heights(view)
        filled = reconstruct(self.markers.fill(height), height, region, self.connectivity)
        return keys_at(upside_down(filled))


def upside_down(height: Heights) -> Ints:
    """Heights as ordered altitudes; `from_ordered` of the same brings them back."""
    return np.invert(ordered_int32(height))


def filled_heights(view: TileView, state: State) -> tuple[Heights, Heights, Ints]:
    """Filled heights, heights and regions of a core and a ring of 1 px around it."""
    height, region = _ring_heights(view)
    level = levels_of(Fill.keys(view, state))
    return from_ordered(np.invert(level), height.dtype), height, region


def _ring_heights(view: TileView) -> tuple[Any, Ints]:
    height = np.negative(view.scratch.get(RING_ALTITUDE, view.tile.number))
    return height, view.scratch.get(RING_REGION, view.tile.number)


@dataclass(frozen=True)
class MarkZones(Round):
    """Number the zones of each core, and unite those of neighbouring cores."""

    grid: TileGrid
    landscape: Landscape
    markers: ZoneMarkers

    name: ClassVar[str] = "zones"

    def tiles(self, grid: TileGrid, state: State) -> Sequence[int]:
        return [int(n) for n in open_tiles(state)]

    def map(self, view: TileView, state: State) -> Output:
        filled: Heights | None = None
        if self.markers.fills:
            filled, height, region = filled_heights(view, state)
        else:
            height, region = _ring_heights(view)
        core = view.tile.core.within(view.window(1))
        zone, counts = (mask[core] for mask in self.markers.zones(height, region, filled))
        labels, count = components(zone, self.landscape.connectivity)
        zones = labels.view(np.int32)
        first = linear_indices(view, view.tile.core, first_pixels(zones, count))
        is_marker = occurring(zones[counts], count + 1)[1:]
        keys = np.append(-1, np.where(is_marker, first, -1))
        view.scratch.put(ZONES, view.tile.number, zones)
        view.scratch.put(ZONE_KEYS, view.tile.number, keys)
        faces = faces_of(labels)
        number = np.unique(np.concatenate([face.reshape(-1) for face in faces.values()]))
        number = number[number > 0].astype(np.int64)
        return Output(
            {"zone": number, "first": first[number - 1], "counts": is_marker[number - 1], **faces}
        )

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        found = dict(records)
        numbers = sorted(found)
        sizes = [len(found[n]["zone"]) for n in numbers]
        offsets = dict(zip(numbers, np.cumsum([0, *sizes]), strict=False))
        zone, first, counts = (
            np.concatenate([found[n][key] for n in numbers]) for key in ("zone", "first", "counts")
        )
        sets = DisjointSets(len(zone))
        nothing = {n: _no_zones(self.grid, n) for n in set(range(len(self.grid))) - set(found)}
        faces = {**found, **nothing}
        touching = contacts(self.grid, faces.__getitem__, self.landscape.connectivity)
        for here, there, a, b in touching:
            if len(a):
                sets.unite(
                    offsets[here] + np.searchsorted(found[here]["zone"], a),
                    offsets[there] + np.searchsorted(found[there]["zone"], b),
                )
        names = sets.names()
        key = np.full(len(zone), np.iinfo(np.int64).max)
        np.minimum.at(key, names, first.astype(np.int64))
        is_marker = np.zeros(len(zone), np.bool_)
        np.logical_or.at(is_marker, names, counts)
        return {
            **state,
            ZONE_TILE: np.repeat(np.array(numbers, np.int64), sizes),
            ZONE_NUMBER: zone.astype(np.int64),
            ZONE_KEY: np.where(is_marker, key, -1)[names],
        }


def _no_zones(grid: TileGrid, number: int) -> Record:
    return faces_of(np.zeros(grid.tile(number).core.shape, np.uint32))
