"""Patches that meet across tiles are one region; its mean may give the seed another interval."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.grey_values import mean_value, quantum_of
from pipeline.grid import TileGrid
from pipeline.growing.intervals import BOUNDS, OPEN, Intervals, bounds_of_seeds
from pipeline.growing.patches import VISITED, Longs, Visits
from pipeline.growing.spread import ACTIVE, meet_neighbours
from pipeline.kernels.measure import Quantum
from pipeline.kernels.unionfind import DisjointSets
from pipeline.methods.base import Output, Round, State
from pipeline.records import Record
from pipeline.seed_rounds import CENTRE
from pipeline.view import TileView

#: Passes of growth that are done.
PASSES = "growing.passes"
#: Patches of regions that are final: tile, root (raster index in the core) and first seed, and
#: their intervals.
FINAL = "growing.final"
FINAL_BOUNDS = "growing.final.bounds"


@dataclass(frozen=True, slots=True)
class GrowthRule:
    """How the interval of a seed follows from its region.

    Parameters
    ----------
    tolerance : float
        Half the width of the interval, in grey values.
    spread : float or None
        Half the width after the first pass, in standard deviations of the region.
    iterations : int
        How often the interval is taken anew; 0: never.
    """

    tolerance: float
    spread: float | None
    iterations: int


@dataclass(frozen=True)
class Meet(Round):
    """Unite the patches of all tiles to regions, and find the intervals of the next pass."""

    rule: GrowthRule
    connectivity: int
    grid: TileGrid

    name: ClassVar[str] = "meet"

    def tiles(self, grid: TileGrid, state: State) -> Sequence[int]:
        return sorted(Visits.of(state).version)

    def map(self, view: TileView, state: State) -> Output:
        visits = Visits.of(state)
        own = visits.patches(view.scratch, view.tile.number)
        _, contacts = meet_neighbours(view, visits, own.faces, self.connectivity)
        quantum = quantum_of(view)
        return Output(
            {
                "sums": own.sums,
                "extremes": own.extremes,
                "seeds": own.seeds,
                # Each contact is seen from both sides.
                "contacts": contacts[contacts[:, 1] > view.tile.number],
                "quantum": np.array([quantum.offset, quantum.step]),
            }
        )

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        found = dict(records)
        intervals = Intervals.of(state, self.rule.tolerance)
        regions = Regions.of(found)
        passes = int(state.get(PASSES, np.array(0)))
        bounds = bounds_of_seeds(state, self.rule.tolerance)
        is_open = intervals.number >= 0
        if passes < self.rule.iterations:
            after = regions.next_bounds(bounds, state[CENTRE], self.rule)
        else:
            after = bounds
        settled = is_open & (after == bounds).all(axis=1)
        final, final_bounds = regions.patches_of(settled, intervals)
        kept = {key: value for key, value in state.items() if key not in (ACTIVE, VISITED)}
        if FINAL in state:
            final = np.concatenate([state[FINAL], final])
            final_bounds = np.concatenate([state[FINAL_BOUNDS], final_bounds])
        return {
            **kept,
            PASSES: np.array(passes + 1),
            BOUNDS: after,
            OPEN: is_open & ~settled,
            FINAL: final,
            FINAL_BOUNDS: final_bounds,
        }


@dataclass(frozen=True, slots=True)
class Regions:
    """The regions of one pass.

    Parameters
    ----------
    tile : ndarray of shape (n,), int64
    sums, extremes : ndarray of shape (n, 6) and (n, 2)
        Of each patch, tile by tile, see `Patches`.
    name : ndarray of shape (n,), int64
        The patch's region: its first patch.
    seeds : ndarray of shape (m, 2), int64
        Seeds, and regions that hold pixels of them, each pair once, in the order of seeds.
    quantum : Quantum
    """

    tile: Longs
    sums: Longs
    extremes: NDArray[np.float64]
    name: Longs
    seeds: Longs
    quantum: Quantum

    @classmethod
    def of(cls, found: dict[int, Record]) -> Regions:
        tiles = sorted(found)
        counts = [len(found[n]["sums"]) for n in tiles]
        offsets = dict(zip(tiles, np.cumsum([0, *counts]).tolist(), strict=False))
        sets = DisjointSets(sum(counts))
        seeds = [np.empty((0, 2), np.int64)]
        for n in tiles:
            contacts = found[n]["contacts"].astype(np.int64)
            theirs = np.array([offsets[other] for other in contacts[:, 1].tolist()], np.int64)
            sets.unite(contacts[:, 0] + offsets[n], contacts[:, 2] + theirs)
            seeds.append(found[n]["seeds"].astype(np.int64) + np.array([0, offsets[n]]))
        name = sets.names()
        pairs = np.concatenate(seeds)
        pairs[:, 1] = name[pairs[:, 1]]
        offset, step = found[tiles[0]]["quantum"].tolist() if tiles else (0.0, 1.0)
        return cls(
            np.repeat(np.array(tiles, np.int64), counts),
            np.concatenate([np.empty((0, 6), np.int64), *(found[n]["sums"] for n in tiles)]),
            np.concatenate([np.empty((0, 2)), *(found[n]["extremes"] for n in tiles)]),
            name,
            np.unique(pairs, axis=0),
            Quantum(offset, step),
        )

    def patches_of(
        self, settled: NDArray[np.bool_], intervals: Intervals
    ) -> tuple[Longs, NDArray[np.float64]]:
        """Rows (tile, root, first seed) of the patches of settled seeds, and their intervals."""
        nobody = len(settled)
        first = np.full(len(self.name), nobody, np.int64)
        mine = settled[self.seeds[:, 0]]
        np.minimum.at(first, self.seeds[mine, 1], self.seeds[mine, 0])
        seed = first[self.name]
        rows = np.flatnonzero(seed < nobody)
        final = np.stack([self.tile[rows], self.sums[rows, 1], seed[rows]], axis=1)
        return final, intervals.bounds[self.sums[rows, 0]]

    def next_bounds(
        self, bounds: NDArray[np.float64], centre: NDArray[np.float64], rule: GrowthRule
    ) -> NDArray[np.float64]:
        """Intervals around the means of the regions, wide enough to hold the seeds' own values.

        Seeds without a region keep theirs.
        """
        after = bounds.copy()
        for seed, count, total, square, extremes in self._moments():
            mean = mean_value(total, count, self.quantum, extremes)
            reach = rule.tolerance
            if rule.spread is not None:
                variance = max(0, count * square - total * total)
                reach = rule.spread * self.quantum.step * math.sqrt(variance) / count
            after[seed] = min(mean - reach, centre[seed]), max(mean + reach, centre[seed])
        return after

    def _moments(self) -> Iterator[tuple[int, int, int, int, tuple[float, float]]]:
        """Seed, pixels, sum, sum of squares (in steps) and extremes of its regions.

        Python's integers: the square of a sum does not fit into 64 bits.
        """
        patches = np.argsort(self.name, kind="stable")
        begin = np.searchsorted(self.name[patches], self.seeds[:, 1], "left")
        end = np.searchsorted(self.name[patches], self.seeds[:, 1], "right")
        cuts = np.flatnonzero(np.diff(self.seeds[:, 0])) + 1
        for rows in np.split(np.arange(len(self.seeds)), cuts):
            if len(rows) == 0:
                continue
            own = np.concatenate([patches[begin[r] : end[r]] for r in rows])
            count, total, high, low = (self.sums[own, k].sum().item() for k in (2, 3, 4, 5))
            smallest, largest = self.extremes[own, 0].min(), self.extremes[own, 1].max()
            square = (high << 32) + low
            yield int(self.seeds[rows[0], 0]), count, total, square, (smallest, largest)
