"""Flooding in windows that hold whole components.

A component that does not touch a window's inner border is whole, and cropping keeps the raster
order that ties are broken by, so it is flooded exactly as in the whole image. Tiles that share a
component flood it each; its labels meet by their markers' positions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.box import Box
from pipeline.grid import TileGrid
from pipeline.join import contacts
from pipeline.kernels.flood import Sources, flood
from pipeline.kernels.relabel import first_pixels, occurring, relabel
from pipeline.kernels.unionfind import DisjointSets
from pipeline.methods.base import Output, Round, State, TileLabels
from pipeline.pieces import faces_of
from pipeline.places import linear_indices
from pipeline.records import Record
from pipeline.view import TileView
from pipeline.watershed.landscape import Landscape

#: Largest and smallest margin of a window around its core.
MARGIN_PX = (16, 96)

OPEN_TILE = "watershed.open.tile"
OPEN_SEED = "watershed.open.seed"
OPEN_REGION = "watershed.open.region"
FLOODED = "watershed.flooded"

#: Scratch arrays: labels of what a window held whole, and their keys.
WHOLE_LABELS = "watershed-whole-labels"
WHOLE_KEYS = "watershed-whole-keys"


def margin_px(view: TileView) -> int:
    """Margin of a tile's window; any margin gives the same labels."""
    low, high = MARGIN_PX
    return min(high, max(low, max(view.grid.side) // 4))


@dataclass(frozen=True)
class FloodWindows(Round):
    """Flood what a window holds whole; report the components that it cuts."""

    landscape: Landscape
    grid: TileGrid

    name: ClassVar[str] = "flood"

    def map(self, view: TileView, state: State) -> Output:
        halo = margin_px(view)
        window = view.window(halo)
        region = self.landscape.regions(view, state, halo)
        cut = _cut(region, window, view.grid.frame_box)
        record = _describe_faces(view, region[view.tile.core.within(window)], cut)
        labels = self._flood_whole(view, region, cut)
        if len(record["component"]) and view.grid.tiles_per_frame > 1:
            # A neighbour may find a part of these components open: `Resolve` then needs the rest.
            view.scratch.put(WHOLE_LABELS, view.tile.number, labels.labels)
            view.scratch.put(WHOLE_KEYS, view.tile.number, keys_of(labels))
        return Output(record, labels)

    def _flood_whole(
        self, view: TileView, region: NDArray[np.int32], cut: NDArray[np.bool_]
    ) -> TileLabels:
        """Labels of the core, keyed by the markers' linear indices; `region` is overwritten."""
        halo = margin_px(view)
        window = view.window(halo)
        core = view.tile.core.within(window)
        kept = ~cut & occurring(region[core], len(cut))
        kept[0] = False
        if not kept.any():
            return TileLabels(np.zeros(view.tile.core.shape, np.uint32), keys=np.empty(0, np.int64))
        if not kept[1:].all():
            relabel(region, np.where(kept, np.arange(len(cut), dtype=np.int32), 0), out=region)
        heights = self.landscape.heights(view, region, halo)
        marked = self.landscape.marked(view, halo, heights, region)
        altitude = self.landscape.altitudes(view, heights, window)
        del heights  # a window is large
        sources = Sources.markers(marked.pixel, altitude)
        source = flood(altitude, region, sources, self.landscape.connectivity)
        del altitude
        labels, keys = marked.labels(np.ascontiguousarray(source[core]))
        return TileLabels(labels, keys=keys)

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        found = dict(records)
        state = {**state, FLOODED: np.array(1)}
        if not any(record["cut"].any() for record in found.values()):
            return state
        return {**state, **_open_regions(found, self.grid, self.landscape.connectivity)}


def _describe_faces(view: TileView, core: NDArray[np.int32], cut: NDArray[np.bool_]) -> Record:
    """Components on the core's faces, which of them the window cuts, and a pixel of each."""
    region = np.ascontiguousarray(core)
    faces = faces_of(region.view(np.uint32))
    on_faces = np.unique(np.concatenate([face.reshape(-1) for face in faces.values()]))
    on_faces = on_faces[on_faces > 0]
    place = np.zeros(len(cut), np.int32)
    place[on_faces] = np.arange(1, len(on_faces) + 1)
    first = first_pixels(relabel(region, place), len(on_faces))
    return {
        "component": on_faces.astype(np.int64),
        "cut": cut[on_faces],
        "seed": linear_indices(view, view.tile.core, first),
        **faces,
    }


def keys_of(labels: TileLabels) -> NDArray[np.int64]:
    """Keys of some labels; none for none."""
    return np.empty(0, np.int64) if labels.keys is None else labels.keys


def _cut(region: NDArray[np.int32], window: Box, frame: Box) -> NDArray[np.bool_]:
    """Which components lie on sides of the window that are not the frame's border."""
    cut = np.zeros(int(region.max(initial=0)) + 1, np.bool_)
    for axis in range(region.ndim):
        if window.start[axis] > frame.start[axis]:
            cut[region.take(0, axis)] = True
        if window.stop[axis] < frame.stop[axis]:
            cut[region.take(-1, axis)] = True
    cut[0] = False
    return cut


def _open_regions(found: dict[int, Record], grid: TileGrid, connectivity: int) -> State:
    """Put the components together that any window cuts, with all their parts in other tiles.

    Returns
    -------
    dict
        One row a part: its tile, a pixel of it (linear index), and the number from 1 of the
        region that it belongs to, by the order of the regions' smallest such pixels.
    """
    numbers = sorted(found)
    offsets = dict(
        zip(numbers, np.cumsum([0, *(len(found[n]["component"]) for n in numbers)]), strict=False)
    )
    tile = np.concatenate([np.full(len(found[n]["component"]), n, np.int64) for n in numbers])
    seed = np.concatenate([found[n]["seed"] for n in numbers]).astype(np.int64)
    cut = np.concatenate([found[n]["cut"] for n in numbers]).astype(np.bool_)
    sets = DisjointSets(len(tile))
    for here, there, a, b in contacts(grid, found.__getitem__, connectivity):
        rows_here = offsets[here] + np.searchsorted(found[here]["component"], a)
        rows_there = offsets[there] + np.searchsorted(found[there]["component"], b)
        sets.unite(rows_here, rows_there)
    names = sets.names()
    is_open = np.zeros(len(tile), np.bool_)
    is_open[names[cut]] = True
    rows = np.flatnonzero(is_open[names])
    smallest = np.full(len(tile), np.iinfo(np.int64).max)
    np.minimum.at(smallest, names, seed)
    _, region = np.unique(smallest[names[rows]], return_inverse=True)
    return {OPEN_TILE: tile[rows], OPEN_SEED: seed[rows], OPEN_REGION: region.astype(np.int64) + 1}
