"""Regions spread from tile to tile until no face is reached anew.

A tile floods, for its own seeds and for pixels that lie beside a neighbour's patch, the patches of
its core. It keeps their runs on its faces, so no patch is flooded twice. Regions only grow and the
set of reached patches does not depend on the order of visits, so tiles may be visited in any.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pipeline.grey_values import core_values, quantum_of
from pipeline.grid import TileGrid
from pipeline.growing.intervals import Intervals
from pipeline.growing.patches import VISITED, Longs, Patches, Visits, neighbours, three_axes
from pipeline.kernels.grow import Values, face_offsets, grow
from pipeline.kernels.meeting import meet, runs_of
from pipeline.kernels.neighbours import neighbour_steps
from pipeline.kernels.seeding import starts_of
from pipeline.methods.base import Output, Round, State
from pipeline.records import Record
from pipeline.seed_rounds import START_SEED, START_TILE
from pipeline.seeds import Seeds
from pipeline.view import TileView

#: Tiles to visit next; absent before the first round of a pass.
ACTIVE = "growing.active"
ITERATION = "growing.iteration"


def iteration_of(state: State) -> int:
    """Rounds of growth so far, over all passes."""
    return int(state[ITERATION]) if ITERATION in state else 0


@dataclass(frozen=True)
class Spread(Round):
    """Visit the tiles that hold seeds, then those whose neighbours have reached them."""

    seeds: Seeds
    tolerance: float
    connectivity: int
    grid: TileGrid

    name: ClassVar[str] = "grow"

    def tiles(self, grid: TileGrid, state: State) -> Sequence[int]:
        if ACTIVE in state:
            return [int(n) for n in state[ACTIVE]]
        grown = Intervals.of(state, self.tolerance).number >= 0
        return [int(n) for n in np.unique(state[START_TILE][grown[state[START_SEED]]])]

    def map(self, view: TileView, state: State) -> Output:
        intervals = Intervals.of(state, self.tolerance)
        visits = Visits.of(state)
        own = visits.patches(view.scratch, view.tile.number)
        since = visits.last.get(view.tile.number, 0)
        entries, _ = meet_neighbours(view, visits, own.faces, self.connectivity, since)
        first = ACTIVE not in state
        if len(entries) == 0 and not first:
            return Output({"changed": np.array(False)})
        values = core_values(view)
        marked = np.empty((0, 2), np.int64)
        if first:
            marks = self.seeds.marks(view, state).reshape(values.shape)
            marked = starts_of(marks, values, intervals.of_seed)
            own_entries = np.stack([intervals.number[marked[:, 0]], marked[:, 1]], axis=1)
            order = np.argsort(own_entries[:, 0], kind="stable")
            entries, marked = own_entries[order], marked[order]
        more, touched = self._flood(view, values, intervals, entries, marked, len(own.sums))
        if len(more.sums) == 0:
            return Output({"changed": np.array(False)})
        iteration = iteration_of(state)
        more.faces[:, 4] = iteration
        own.with_more(more).save(view.scratch, view.tile.number, iteration)
        return Output({"changed": np.array(True), "touched": touched})

    def _flood(
        self,
        view: TileView,
        values: Values,
        intervals: Intervals,
        entries: Longs,
        marked: Longs,
        known: int,
    ) -> tuple[Patches, np.ndarray]:
        """New patches, numbered behind the `known` ones, and the directions that they touch."""
        quantum = quantum_of(view)
        found = grow(
            values,
            intervals.bounds,
            np.ascontiguousarray(entries[:, 0]),
            np.ascontiguousarray(entries[:, 1]),
            neighbour_steps(view.grid.ndim, self.connectivity),
            (quantum.offset, quantum.step),
            _open_faces(view),
        )
        runs = runs_of(found.faces)
        order = np.argsort(found.interval[runs[:, 0]], kind="stable")
        runs = runs[order]
        numbers = found.interval[runs[:, 0]]
        faces = np.column_stack([numbers, runs, np.zeros(len(runs), np.int64)])
        faces[:, 1] += known
        seeds = np.unique(
            np.stack([marked[:, 0], found.patch[: len(marked)] + known], axis=1), axis=0
        )
        sums = [found.interval, found.root, found.count]
        sums += [found.total, found.square_high, found.square_low]
        return Patches(np.stack(sums, axis=1), found.extremes, faces, seeds), found.touched

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        iteration = iteration_of(state)
        visits = Visits.of(state)
        active: set[int] = set()
        for number, record in records:
            visits.last[number] = iteration
            if not record["changed"]:
                continue
            visits.version[number] = iteration
            tile = self.grid.tile(number)
            for direction, other in neighbours(self.grid, tile, self.connectivity):
                if record["touched"][three_axes(tuple(d + 1 for d in direction), 1)]:
                    active.add(other.number)
        return {
            **state,
            ITERATION: np.array(iteration + 1),
            VISITED: visits.rows(),
            ACTIVE: np.array(sorted(active), np.int64),
        }


def meet_neighbours(
    view: TileView, visits: Visits, own: Longs, connectivity: int, since: int = 0
) -> tuple[Longs, Longs]:
    """Entries and contacts of a tile, see `pipeline.kernels.meeting.meet`.

    Only runs that neighbours found in iteration `since` or later count. The second column of
    the contacts is the number of the neighbour's tile.
    """
    core = view.tile.core
    shape = three_axes(core.shape, 1)
    others: list[Longs] = []
    tiles: list[int] = []
    origins, shapes, offsets = [], [], []
    for direction, tile in neighbours(view.grid, view.tile, connectivity):
        rows = visits.faces(view.scratch, tile.number)
        rows = rows[rows[:, 4] >= since]
        if len(rows) == 0:
            continue
        along = three_axes(direction, 0)
        axis = next(i for i, d in enumerate(along) if d)
        face = 2 * axis + (along[axis] > 0)
        other_shape = three_axes(tile.core.shape, 1)
        bounds = face_offsets(other_shape)
        # Runs may go on from face to face: cut out what lies on the face that looks here.
        start = np.maximum(rows[:, 2], bounds[face ^ 1])
        stop = np.minimum(rows[:, 3], bounds[(face ^ 1) + 1])
        kept = start < stop
        place = np.full(len(rows), len(tiles), np.int64), np.full(len(rows), face, np.int64)
        others.append(np.column_stack([rows[:, :2], *place, start, stop])[kept])
        tiles.append(tile.number)
        origins.append(three_axes(tile.core.relative_to(core.start).start, 0))
        shapes.append(other_shape)
        offsets.append(bounds)
    if not tiles:
        return np.empty((0, 2), np.int64), np.empty((0, 3), np.int64)
    rows = np.concatenate(others)
    entries, contacts = meet(
        np.ascontiguousarray(own[:, :4]),
        shape,
        face_offsets(shape),
        rows[np.argsort(rows[:, 0], kind="stable")],
        np.array(origins, np.int64),
        np.array(shapes, np.int64),
        np.stack(offsets),
        neighbour_steps(view.grid.ndim, connectivity),
    )
    contacts[:, 1] = np.array(tiles, np.int64)[contacts[:, 1]]
    return entries, contacts


def _open_faces(view: TileView) -> np.ndarray:
    core, frame = view.tile.core, view.grid.frame_box
    found = np.zeros((3, 2), np.bool_)
    for axis in range(core.ndim):
        found[axis - core.ndim, 0] = core.start[axis] > frame.start[axis]
        found[axis - core.ndim, 1] = core.stop[axis] < frame.stop[axis]
    return found.reshape(-1)
