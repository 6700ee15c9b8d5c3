"""Components that no window held whole: their regions, heights and peaks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.box import Box
from pipeline.grid import TileGrid
from pipeline.kernels.peaks import candidate_peaks, space_peaks
from pipeline.kernels.relabel import relabel
from pipeline.methods.base import EmittingRound, Output, Round, State
from pipeline.places import inside_core, linear_indices
from pipeline.records import Record
from pipeline.view import TileView
from pipeline.watershed.flood import (
    OPEN_REGION,
    OPEN_SEED,
    OPEN_TILE,
    margin_px,
)
from pipeline.watershed.landscape import Landscape

REGIONS_MARKED = "watershed.regions"
HEIGHTS_KEPT = "watershed.heights"
PEAKS = "watershed.peaks"

#: Scratch arrays: regions of the core; altitudes and regions of the core and a ring of 1 px.
REGION = "watershed-region"
RING_ALTITUDE = "watershed-altitude"
RING_REGION = "watershed-ring-region"


def open_tiles(state: State) -> NDArray[np.int64]:
    """Tiles with a part of an open region, sorted."""
    return np.unique(state[OPEN_TILE].astype(np.int64))


@dataclass(frozen=True)
class MarkRegions(EmittingRound):
    """Write the open regions of each core, numbered alike in all tiles."""

    landscape: Landscape

    name: ClassVar[str] = "regions"
    done: ClassVar[str] = REGIONS_MARKED

    def tiles(self, grid: TileGrid, state: State) -> Sequence[int]:
        return [int(n) for n in open_tiles(state)]

    def map(self, view: TileView, state: State) -> Output:
        # The same margin as when the seeds were taken, so that each part has its seed.
        halo = margin_px(view)
        components = self.landscape.regions(view, state, halo)
        core = components[view.tile.core.within(view.window(halo))]
        mine = state[OPEN_TILE] == view.tile.number
        place = _in_core(view, state[OPEN_SEED][mine].astype(np.int64))
        number = np.zeros(int(components.max(initial=0)) + 1, np.int32)
        number[core[place]] = state[OPEN_REGION][mine]
        view.scratch.put(REGION, view.tile.number, relabel(core, number))
        return Output({})


@dataclass(frozen=True)
class KeepHeights(EmittingRound):
    """Write altitudes and regions of each core and a ring of 1 px around it."""

    landscape: Landscape

    name: ClassVar[str] = "heights"
    done: ClassVar[str] = HEIGHTS_KEPT

    def tiles(self, grid: TileGrid, state: State) -> Sequence[int]:
        return [int(n) for n in open_tiles(state)]

    def map(self, view: TileView, state: State) -> Output:
        keep_heights(self.landscape, view, state, 1)
        return Output({})


@dataclass(frozen=True)
class FindPeaks(Round):
    """The same, and the peaks that keep their distance."""

    landscape: Landscape
    grid: TileGrid

    name: ClassVar[str] = "peaks"

    def tiles(self, grid: TileGrid, state: State) -> Sequence[int]:
        return [int(n) for n in open_tiles(state)]

    def map(self, view: TileView, state: State) -> Output:
        near = view.window(self.landscape.peak_px)
        high, region = keep_heights(self.landscape, view, state, self.landscape.peak_px)
        flat = candidate_peaks(high, region, self.landscape.min_distance_px)
        flat = flat[inside_core(flat, near, view.tile.core)]
        return Output(
            {
                "pixel": linear_indices(view, near, flat),
                "height": high.reshape(-1)[flat],
                "region": region.reshape(-1)[flat].astype(np.int64),
            }
        )

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        found = [record for _, record in records]
        pixel, height, region = (
            np.concatenate([record[key] for record in found])
            for key in ("pixel", "height", "region")
        )
        pixel = pixel.astype(np.int64)
        frame_size = int(np.prod(self.grid.shape))
        coords = np.stack(np.unravel_index(pixel % frame_size, self.grid.shape), axis=1)
        keep = space_peaks(
            coords.astype(np.int64),
            height,
            region.astype(np.int64),
            pixel,
            self.landscape.min_distance_px,
        )
        return {**state, HEIGHTS_KEPT: np.array(1), PEAKS: np.sort(pixel[keep])}


def keep_heights(
    landscape: Landscape, view: TileView, state: State, margin_px: int
) -> tuple[Any, NDArray[np.int32]]:
    """Keep what the flood of the core needs; heights and regions of the core and a margin."""
    halo = margin_px + landscape.support_px
    window, near = view.window(halo), view.window(margin_px)
    region = assemble(view, REGION, window, state)
    heights = landscape.heights(view, region, halo)
    # Behind the margin heights are not needed, nor right.
    high: Any = np.ascontiguousarray(heights[near.within(window)])
    del heights  # a window is large
    region = np.ascontiguousarray(region[near.within(window)])
    ring = view.window(1).within(near)
    altitude = landscape.altitudes(view, high[ring], view.window(1))
    view.scratch.put(RING_ALTITUDE, view.tile.number, altitude)
    view.scratch.put(RING_REGION, view.tile.number, region[ring])
    return high, region


def assemble(view: TileView, name: str, window: Box, state: State) -> NDArray[np.int32]:
    """A scratch array of cores, over a window; 0 where a tile has nothing open."""
    known = set(open_tiles(state).tolist())
    region = np.zeros(window.shape, np.int32)
    for tile in view.grid.touching(view.tile.frame, window):
        if tile.number in known:
            common = tile.core.intersect(window)
            core = view.scratch.get(name, tile.number)
            region[common.within(window)] = core[common.within(tile.core)]
    return region


def _in_core(view: TileView, linear: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    frame_size = int(np.prod(view.grid.shape))
    place = np.unravel_index(linear % frame_size, view.grid.shape)
    return tuple(p - a for p, a in zip(place, view.tile.core.start, strict=True))
