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
from pipeline.kernels.flood import flood
from pipeline.kernels.peaks import find_peaks
from pipeline.kernels.unionfind import DisjointSets
from pipeline.methods.base import Output, Round, State, TileLabels
from pipeline.pieces import faces_of
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
        window = FloodedWindow.of(self.landscape, view, state)
        record, labels = window.record(view), window.labels(view)
        if len(record["component"]) and view.grid.tiles_per_frame > 1:
            # A neighbour may find a part of these components open: `Resolve` then needs the rest.
            view.scratch.put(WHOLE_LABELS, view.tile.number, labels.labels)
            view.scratch.put(WHOLE_KEYS, view.tile.number, keys_of(labels))
        return Output(record, labels)

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        found = dict(records)
        state = {**state, FLOODED: np.array(1)}
        if not any(record["cut"].any() for record in found.values()):
            return state
        return {**state, **_open_regions(found, self.grid, self.landscape.connectivity)}


@dataclass(frozen=True, slots=True)
class FloodedWindow:
    """A tile's window with its components, those that it cuts, and the flood of the others.

    Parameters
    ----------
    window : Box
    region : ndarray of shape (\\*window), int32
        All components.
    cut : ndarray of shape (components + 1,), bool
        Which components go on behind the window.
    root : ndarray of shape (\\*window), int32
        Raster index, in the window, of the marker that each pixel belongs to; -1 without.
    """

    window: Box
    region: NDArray[np.int32]
    cut: NDArray[np.bool_]
    root: NDArray[np.int32]

    @classmethod
    def of(cls, landscape: Landscape, view: TileView, state: State) -> FloodedWindow:
        halo = margin_px(view)
        window = view.window(halo)
        region = landscape.regions(view, state, halo)
        count = int(region.max(initial=0))
        cut = _cut(region, window, view.grid.frame_box, count)
        wanted = ~cut
        wanted[0] = False
        present = np.zeros(count + 1, np.bool_)
        present[region[view.tile.core.within(window)]] = True
        kept = wanted & present
        whole = np.where(kept[region], region, np.int32(0)) if not kept[1:].all() else region
        if not kept.any():
            empty = np.full(region.shape, -1, np.int32)
            return cls(window, region, cut, empty)
        heights = landscape.heights(view, whole, halo)
        peaks = find_peaks(heights, whole, landscape.min_distance_px)
        altitude = np.negative(heights)
        sources = altitude.reshape(-1)[peaks]
        hops = np.zeros(len(peaks), np.int32)
        root, _, _ = flood(altitude, whole, peaks, sources, hops, landscape.connectivity)
        return cls(window, region, cut, root)

    def record(self, view: TileView) -> Record:
        """Components on the core's faces, which of them are cut, and a pixel of each."""
        region = np.ascontiguousarray(self.region[view.tile.core.within(self.window)])
        faces = faces_of(region.view(np.uint32))
        on_faces = np.unique(np.concatenate([face.reshape(-1) for face in faces.values()]))
        on_faces = on_faces[on_faces > 0]
        first = _first_pixels(region, on_faces)
        return {
            "component": on_faces.astype(np.int64),
            "cut": self.cut[on_faces],
            "seed": linear_indices(view, Box.whole(region.shape), first, view.tile.core.start),
            **faces,
        }

    def labels(self, view: TileView) -> TileLabels:
        """Labels of the core, keyed by the markers' linear indices."""
        core = view.tile.core.within(self.window)
        labels, roots = numbered(self.root[core], self.root.size)
        keys = linear_indices(view, self.window, roots, (0,) * view.grid.ndim)
        return TileLabels(labels, keys=keys)


def keys_of(labels: TileLabels) -> NDArray[np.int64]:
    """Keys of some labels; none for none."""
    return np.empty(0, np.int64) if labels.keys is None else labels.keys


def numbered(root: NDArray[np.int32], size: int) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Number the roots that occur.

    Parameters
    ----------
    root : ndarray of any shape, int32
        Raster indices below `size`; -1 is none.

    Returns
    -------
    labels : ndarray of the same shape, uint32
        1..n in the order of the roots; 0 where there is none.
    roots : ndarray of shape (n,), int64
    """
    occurs = np.zeros(size + 1, np.bool_)
    # Index -1 is the last entry, which is cleared again.
    occurs[root] = True
    occurs[-1] = False
    number = np.cumsum(occurs, dtype=np.uint32)
    number[~occurs] = 0
    return number[root], np.flatnonzero(occurs)


def inside_core(flat: NDArray[np.int64], window: Box, core: Box) -> NDArray[np.bool_]:
    """Which pixels, given by raster index in a window, lie in the core."""
    inside = np.ones(len(flat), np.bool_)
    local = core.relative_to(window.start)
    for position, a, b in zip(
        np.unravel_index(flat, window.shape), local.start, local.stop, strict=True
    ):
        inside &= (position >= a) & (position < b)
    return inside


def linear_indices(
    view: TileView, box: Box, flat: NDArray[np.int64], shift: tuple[int, ...]
) -> NDArray[np.int64]:
    """Linear indices, among all frames, of pixels given by raster index in a box."""
    index = np.full(len(flat), view.tile.frame, np.int64)
    local = np.unravel_index(flat, box.shape)
    for position, start, more, n in zip(local, box.start, shift, view.grid.shape, strict=True):
        index = index * n + (position + start + more)
    return index


def _cut(region: NDArray[np.int32], window: Box, frame: Box, count: int) -> NDArray[np.bool_]:
    """Components on those sides of the window that are not the frame's border."""
    cut = np.zeros(count + 1, np.bool_)
    for axis in range(region.ndim):
        if window.start[axis] > frame.start[axis]:
            cut[region.take(0, axis)] = True
        if window.stop[axis] < frame.stop[axis]:
            cut[region.take(-1, axis)] = True
    cut[0] = False
    return cut


def _first_pixels(region: NDArray[np.int32], numbers: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Smallest raster index of each component of some, in the core."""
    first = np.zeros(int(region.max(initial=0)) + 1, np.int64)
    flat = region.reshape(-1)
    inside = np.flatnonzero(flat)[::-1]
    first[flat[inside]] = inside
    return first[numbers]


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
