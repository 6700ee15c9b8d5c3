"""Rounds that place seeds, move centres, and label the parts of clusters.

Every round of moving assigns all pixels to the nearest centre and sums places and colours in
integers; the reduction adds the sums of all tiles and moves the centres together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels.components import components, face_connectivity
from pipeline.kernels.slic import COLOR_STEPS, add_up, assign_pixels, move_to_flat_places
from pipeline.lattice import Lattice
from pipeline.methods.base import Output, Round, State, TileLabels
from pipeline.records import Record
from pipeline.slic.centres import (
    CENTRES,
    COLORS,
    PLACES,
    SPREAD,
    NearCentres,
    centres_near,
    with_centres,
)
from pipeline.slic.colors import VALUES, Colors
from pipeline.view import TileView

#: How often centres have moved, and the farthest way of one in the last move.
MOVES = "slic.moves"
MOVED = "slic.moved"
LABELED = "slic.labeled"
#: A cluster of even colour keeps this spread, squared: 1 of the 100 steps of L*.
LEAST_SPREAD = 1.0

NUMBERS = "numbers"


@dataclass(frozen=True)
class Clusters:
    """What the rounds share.

    Parameters
    ----------
    lattice : Lattice
    colors : Colors
    compactness : float
    adaptive : bool
        Whether the compactness of each cluster follows its colours (SLIC-zero).
    """

    lattice: Lattice
    colors: Colors
    compactness: float
    adaptive: bool

    def assigned(
        self, view: TileView, state: State, halo_px: int = 0
    ) -> tuple[NearCentres, NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
        """Assign the pixels of a window.

        Returns
        -------
        near : NearCentres
        colors : ndarray of shape (C, Z, Y, X), float32
        nearest : ndarray of shape (Z, Y, X), int32
            Place of the centre in `near`; -1 where nothing is segmented.
        best : ndarray of shape (Z, Y, X), float32
            Squared distance; infinite where no centre reaches.
        """
        window = view.window(halo_px)
        near = centres_near(state, self.lattice, view.tile.frame, window)
        colors = _deep(self.colors.of(view, state, halo_px))
        nearest = near.homes.reshape(colors.shape[1:])
        best = np.full(nearest.shape, np.inf, np.float32)
        assign_pixels(
            colors,
            origin(window.start),
            near.places,
            near.colors,
            near.weights,
            self.lattice.per_step,
            self.lattice.reach_px,
            nearest,
            best,
        )
        usable = self.colors.usable(view, halo_px)
        if usable is not None:
            nearest[~usable.reshape(nearest.shape)] = -1
        return near, colors, nearest, best


def origin(start: tuple[int, ...]) -> NDArray[np.int64]:
    """z, y, x of a window's first pixel."""
    return np.array((0, *start)[-3:], np.int64)


def _deep(channels: NDArray[np.float32]) -> NDArray[np.float32]:
    """(C, Y, X) as (C, 1, Y, X)."""
    return channels.reshape(len(channels), *(1, *channels.shape[1:])[-3:])


@dataclass(frozen=True)
class PlaceSeeds(Round):
    """Put the seeds to places without edges; find the range of values."""

    clusters: Clusters

    name: ClassVar[str] = "seeds"

    def map(self, view: TileView, state: State) -> Output:
        colors, lattice = self.clusters.colors, self.clusters.lattice
        core, window = view.tile.core, view.window(2)
        found, usable = colors.first_look(view, state)
        inside = core.within(window)
        values = found[(slice(None), *inside)]
        if not usable.all():
            values = values[:, usable[inside]]
        numbers, places = lattice.seeds(core)
        local = np.zeros((len(places), 3), np.int64)
        local[:, 3 - core.ndim :] = places - np.array(window.start)
        deep = np.ascontiguousarray(found).reshape(len(found), *(1, *window.shape)[-3:])
        move_to_flat_places(deep, usable.reshape(deep.shape[1:]), local)
        picked = deep[:, local[:, 0], local[:, 1], local[:, 2]].T
        ends = [values.min(), values.max()] if values.size else [np.inf, -np.inf]
        return Output(
            {
                NUMBERS: numbers + view.tile.frame * lattice.cells,
                PLACES: (local + origin(window.start))[:, 3 - core.ndim :],
                COLORS: picked.astype(np.float64),
                VALUES: np.array(ends, np.float64),
            }
        )

    def combine(self, records: Iterable[Record]) -> Record:
        known = list(records)
        ends = np.stack([record[VALUES] for record in known])
        parts = {
            key: np.concatenate([record[key] for record in known])
            for key in (NUMBERS, PLACES, COLORS)
        }
        order = np.argsort(parts[NUMBERS])
        return {
            VALUES: np.array([ends[:, 0].min(), ends[:, 1].max()]),
            **{key: part[order] for key, part in parts.items()},
        }

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        seeds = self.combine(record for _, record in records)
        state = {**state, VALUES: seeds[VALUES]}
        spread = np.full(len(seeds[NUMBERS]), self.clusters.compactness**2, np.float32)
        colors = self.clusters.colors.mapped(seeds[COLORS], state)
        places = seeds[PLACES].astype(np.float64)
        centres = with_centres(self.clusters.lattice, places, colors, spread)
        return {**state, MOVES: np.array(0), **centres}


@dataclass(frozen=True)
class MoveCentres(Round):
    """Move every centre to the mean of its pixels, which are in integers until they are divided."""

    clusters: Clusters

    name: ClassVar[str] = "move"

    def map(self, view: TileView, state: State) -> Output:
        near, colors, nearest, best = self.clusters.assigned(view, state)
        sums = np.zeros((len(near.numbers), 4 + len(colors)), np.int64)
        widest = np.zeros(len(near.numbers), np.float32)
        start = origin(view.tile.core.start)
        add_up(colors, start, nearest, best, near.colors, sums, widest)
        found = sums[:, 0] > 0
        return Output({NUMBERS: near.numbers[found], "sums": sums[found], SPREAD: widest[found]})

    def combine(self, records: Iterable[Record]) -> Record:
        known = list(records)
        numbers, place = np.unique(
            np.concatenate([record[NUMBERS] for record in known]), return_inverse=True
        )
        parts = np.concatenate([record["sums"] for record in known])
        sums = np.zeros((len(numbers), parts.shape[1]), np.int64)
        np.add.at(sums, place, parts)
        widest = np.zeros(len(numbers), np.float32)
        np.maximum.at(widest, place, np.concatenate([record[SPREAD] for record in known]))
        return {NUMBERS: numbers, "sums": sums, SPREAD: widest}

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        total = self.combine(record for _, record in records)
        numbers, sums = total[NUMBERS], total["sums"]
        lattice = self.clusters.lattice
        places, colors, spread = (state[key].copy() for key in (PLACES, COLORS, SPREAD))
        ndim = places.shape[1]
        count = sums[:, :1].astype(np.float64)
        places[numbers] = sums[:, 4 - ndim : 4] / count
        colors[numbers] = sums[:, 4:] / (count * COLOR_STEPS)
        if self.clusters.adaptive:
            spread[numbers] = np.maximum(total[SPREAD], LEAST_SPREAD)
        steps = (places - state[PLACES]) * np.array(lattice.spacing)
        moved = np.sqrt((steps**2).sum(axis=1).max(initial=0))
        return {
            **state,
            MOVES: state[MOVES] + 1,
            MOVED: np.asarray(moved),
            **with_centres(lattice, places, colors, spread),
        }


@dataclass(frozen=True)
class LabelParts(Round):
    """Assign the pixels for the last time; label the connected parts of clusters."""

    clusters: Clusters

    name: ClassVar[str] = "parts"

    def map(self, view: TileView, state: State) -> Output:
        window, core = view.window(1), view.tile.core
        _, _, nearest, _ = self.clusters.assigned(view, state, 1)
        cluster = nearest.reshape(window.shape) + np.int32(1)
        inside = core.within(window)
        labels, _ = components(cluster[inside], face_connectivity(core.ndim))
        links = [np.empty((0, 2), np.int64)]
        for axis in range(core.ndim):
            if core.start[axis] > 0:
                links.append(_links(view, cluster, labels, axis))
        return Output({}, TileLabels(labels, links=np.unique(np.concatenate(links), axis=0)))

    def combine(self, records: Iterable[Record]) -> Record:
        return {}

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        # The centres have done their work, and later rounds need not read them.
        rest = {key: value for key, value in state.items() if key not in CENTRES}
        return {**rest, LABELED: np.array(1)}


def _links(
    view: TileView, cluster: NDArray[np.int32], labels: NDArray[np.uint32], axis: int
) -> NDArray[np.int64]:
    """Links from a core's first face on an axis to the pixels of the same cluster before it."""
    window, core, grid = view.window(1), view.tile.core, view.grid
    first = list(core.within(window))
    own = np.take(cluster[tuple(first)], 0, axis)
    first[axis] = slice(0, 1)
    before = np.take(cluster[tuple(first)], 0, axis)
    same = np.nonzero((own == before) & (own > 0))
    places = [p + s for p, s in zip(same, np.delete(core.start, axis), strict=True)]
    places.insert(axis, np.full(len(same[0]), core.start[axis] - 1))
    index = view.tile.frame * grid.frame_box.size + np.ravel_multi_index(places, grid.shape)
    return np.stack([np.take(labels, 0, axis)[same].astype(np.int64), index], axis=1)
