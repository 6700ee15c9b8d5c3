"""Quick shift tile by tile: ways up that leave a tile are put together frame by frame.

    climb   every pixel of a core climbs until it rests or leaves the core; pixels whose ways end
            in one place are a piece
    solve   the way goes on from there as that of the piece that has the place, in whatever tile
    label   pieces that rest on one pixel are one object

Only places where a way leaves a core are held for a whole frame; they lie near the cores' borders.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.features import ColorSpace, smoothed_features
from pipeline.frame_solve import PIECES, SolveFrame
from pipeline.grid import TileGrid, linear_index, linear_indices
from pipeline.kernels.quick_shift import climb, densities, steps_by_distance
from pipeline.methods.base import EmittingRound, Output, State
from pipeline.view import TileView

Longs = NDArray[np.int64]

#: Scratch: where the ways of a tile's pieces end, as linear indices among all frames.
ENDS = "climb-ends"


@dataclass(frozen=True)
class Shift:
    """How far pixels see and go; `ratio` multiplies colours."""

    space: ColorSpace
    sigma_px: float
    kernel_size: float
    max_dist: float
    ratio: float

    @property
    def radius_px(self) -> int:
        """Pixels that count for a density lie in a square of so much to each side."""
        return int(np.ceil(3 * self.kernel_size))

    @property
    def step_px(self) -> int:
        """Longest step of a way, on each axis."""
        return min(self.radius_px, int(self.max_dist))


@dataclass(frozen=True)
class Climb(EmittingRound):
    """Let the pixels of every core climb; pieces and the ends of their ways go to scratch."""

    shift: Shift

    name: ClassVar[str] = "climb"
    done: ClassVar[str] = "quick_shift.climbed"

    def map(self, view: TileView, state: State) -> Output:
        by, grid, tile = self.shift, view.grid, view.tile
        halo_px = by.radius_px + by.step_px
        window = view.window(halo_px)
        colors = smoothed_features(view, by.space, by.sigma_px, halo_px) * by.ratio
        valid = view.valid(halo_px)
        if valid is not None:
            colors[:, ~valid] = np.nan
        labels, ends = climb(
            colors,
            densities(colors, by.kernel_size, by.radius_px),
            tile.core.within(window),
            linear_index(tile.frame, grid.shape, window.start),
            grid.shape[-1],
            steps_by_distance(by.step_px, by.max_dist),
            by.max_dist,
        )
        view.scratch.put(PIECES, tile.number, labels)
        view.scratch.put(ENDS, tile.number, linear_indices(tile.frame, grid.shape, window, ends))
        return Output({})


@dataclass(frozen=True)
class FollowAcross(SolveFrame):
    """Follow ways from tile to tile; a piece's key is the pixel that it rests on."""

    def keys(self, view: TileView, tiles: Sequence[int]) -> Iterator[Longs]:
        grid, scratch = view.grid, view.scratch
        found = [np.empty(0, np.int64)]
        for tile in tiles:
            ends = scratch.get(ENDS, tile)
            found.append(ends[_owners(grid, ends)[0] != tile])
        exits = np.unique(np.concatenate(found))
        rests = _rests(exits, self._next(view, exits))
        for tile in tiles:
            ends = scratch.get(ENDS, tile)
            place = np.searchsorted(exits, ends)
            known = place < len(exits)
            known[known] = exits[place[known]] == ends[known]
            ends[known] = rests[place[known]]
            yield ends

    def _next(self, view: TileView, exits: Longs) -> Longs:
        """Where the ways from some pixels end in the tiles that own these."""
        after = np.empty_like(exits)
        owners, local = _owners(view.grid, exits)
        for owner in np.unique(owners):
            mine = owners == owner
            labels = view.scratch.get(PIECES, int(owner))[tuple(local[mine].T)]
            after[mine] = view.scratch.get(ENDS, int(owner))[labels - 1]
        return after


def _owners(grid: TileGrid, pixels: Longs) -> tuple[Longs, Longs]:
    """Tiles of pixels of given linear indices, and their positions in these tiles' cores."""
    frame, place = np.divmod(pixels, int(np.prod(grid.shape)))
    position = np.stack(np.unravel_index(place, grid.shape), axis=1)
    index, local = np.divmod(position, np.array(grid.side))
    tile: Longs = np.ravel_multi_index(tuple(index.T), grid.counts)
    return frame * grid.tiles_per_frame + tile, local


def _rests(exits: Longs, after: Longs) -> Longs:
    """Where ways rest that go on from each of `exits`, sorted, to the same entry of `after`.

    Each turn doubles the steps that are known: ways climb, so they have an end.
    """
    place = np.searchsorted(exits, after)
    inside = place < len(exits)
    inside[inside] = exits[place[inside]] == after[inside]
    parent = np.where(inside, place, np.arange(len(exits)))
    while True:
        further = parent[parent]
        if np.array_equal(further, parent):
            return after[parent]
        parent = further
