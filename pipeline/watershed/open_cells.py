"""Markers on a grid of components that no window held whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pipeline.grid import TileGrid
from pipeline.methods.base import Output, Round, State
from pipeline.places import linear_indices
from pipeline.records import Record
from pipeline.view import TileView
from pipeline.watershed.cells import Candidates, candidates, chosen
from pipeline.watershed.landscape import Landscape
from pipeline.watershed.markers import GridMarkers
from pipeline.watershed.open import HEIGHTS_KEPT, PEAKS, keep_heights, open_tiles


@dataclass(frozen=True)
class FindLowest(Round):
    """Keep heights, and find the markers of the cells: the best that any core has of each."""

    landscape: Landscape
    grid: TileGrid
    markers: GridMarkers

    name: ClassVar[str] = "lowest"

    def tiles(self, grid: TileGrid, state: State) -> Sequence[int]:
        return [int(n) for n in open_tiles(state)]

    def map(self, view: TileView, state: State) -> Output:
        high, region = keep_heights(self.landscape, view, state, 1)
        core = view.tile.core
        inside = core.within(view.window(1))
        lattice = self.markers.lattice(view.grid.shape)
        found = candidates(lattice, core, high[inside], region[inside])
        return Output(
            {
                "pixel": linear_indices(view, core, found.pixel),
                "region": found.region,
                "cell": found.cell,
                "height": found.height,
                "apart": found.apart,
            }
        )

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        found = [record for _, record in records]
        pixel, region, cell, height, apart = (
            np.concatenate([record[key] for record in found])
            for key in ("pixel", "region", "cell", "height", "apart")
        )
        best = chosen(Candidates(pixel.astype(np.int64), region, cell, height, apart))
        return {**state, HEIGHTS_KEPT: np.array(1), PEAKS: np.sort(pixel[best]).astype(np.int64)}
