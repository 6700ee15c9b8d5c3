"""The rounds that gather seeds, see `pipeline.seeds`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.annotations.points import point_pixels
from pipeline.companions import Companion
from pipeline.foreground import ForegroundRule
from pipeline.grey_values import core_values, mean_value, quantum_of
from pipeline.grid import TileGrid
from pipeline.image import ImageInfo
from pipeline.kernels.measure import Quantum
from pipeline.kernels.ordering import grey_heights
from pipeline.kernels.peaks import Distance, candidate_peaks, space_peaks
from pipeline.kernels.relabel import relabel
from pipeline.kernels.seeding import sums_of_marks
from pipeline.lengths import per_axis
from pipeline.methods.base import Output, Round, State
from pipeline.places import inside_core, linear_indices
from pipeline.records import Record
from pipeline.view import TileView

#: What seeds from files are for, see `Method.companions`.
COMPANION = "seeds"

#: Grey value of each seed, float64; NaN where it has none.
CENTRE = "seeds.centre"
#: Pairs of a seed and a tile that holds pixels of it.
START_SEED = "seeds.start.seed"
START_TILE = "seeds.start.tile"
#: Linear index, among all frames, of each seed of one pixel.
PIXEL = "seeds.pixel"
#: Frame and number of each seed of a label image.
FRAME = "seeds.frame"
NUMBER = "seeds.number"

Longs = NDArray[np.int64]
SeedMarks = NDArray[np.int32]


@dataclass(frozen=True)
class ReadSeedPoints(Round):
    """Read the grey values at marked points."""

    companion: Companion
    info: ImageInfo
    image: str
    grid: TileGrid

    name: ClassVar[str] = "seeds"

    def tiles(self, grid: TileGrid, state: State) -> Sequence[int]:
        return [int(n) for n in np.unique(tiles_of(self._pixels(), grid))]

    def map(self, view: TileView, state: State) -> Output:
        pixels = self._pixels()
        mine = np.flatnonzero(tiles_of(pixels, view.grid) == view.tile.number)
        return Output({"seed": mine, "value": values_at(view, pixels[mine])})

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        pixels = self._pixels()
        centre = np.full(len(pixels), np.nan)
        for _, record in records:
            centre[record["seed"]] = record["value"]
        return {**state, **single_pixels(pixels, centre, self.grid)}

    def _pixels(self) -> Longs:
        return point_pixels(self.companion, self.info, self.image)


@dataclass(frozen=True)
class FindSeedPeaks(Round):
    """Find the local maxima of the foreground and space them over the whole image."""

    foreground: ForegroundRule
    min_distance_px: Distance
    grid: TileGrid

    name: ClassVar[str] = "seeds"

    def map(self, view: TileView, state: State) -> Output:
        halo = max(1, *per_axis(self.min_distance_px, 1))
        window = view.window(halo)
        region = self.foreground.mask(view, state, halo).astype(np.int32)
        heights: Any = grey_heights(view.image(halo)[0], self.foreground.objects)
        found = candidate_peaks(heights, region, self.min_distance_px)
        found = found[inside_core(found, window, view.tile.core)]
        pixels = linear_indices(view, window, found)
        return Output(
            {
                "pixel": pixels,
                "height": heights.reshape(-1)[found],
                "value": values_at(view, pixels),
            }
        )

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        found = [record for _, record in records]
        pixel, height, value = (
            np.concatenate([record[key] for record in found])
            for key in ("pixel", "height", "value")
        )
        frame, place = np.divmod(pixel, int(np.prod(self.grid.shape)))
        coords = np.stack(np.unravel_index(place, self.grid.shape), axis=1).astype(np.int64)
        keep = np.flatnonzero(space_peaks(coords, height, frame, pixel, self.min_distance_px))
        keep = keep[np.argsort(pixel[keep])]
        return {**state, **single_pixels(pixel[keep], value[keep], self.grid)}


@dataclass(frozen=True)
class ReadSeedLabels(Round):
    """Measure the grey values under the numbers of a label image."""

    grid: TileGrid

    name: ClassVar[str] = "seeds"

    def map(self, view: TileView, state: State) -> Output:
        labels: NDArray[Any] = view.companion_labels(COMPANION, view.tile.core)
        numbers = np.unique(labels)
        numbers = numbers[numbers != 0].astype(np.int64)
        if len(numbers) == 0:
            return Output({})
        marks = marks_of_numbers(labels, numbers, np.arange(1, len(numbers) + 1, dtype=np.int32))
        quantum = quantum_of(view)
        steps = (quantum.offset, quantum.step)
        sums, extremes = sums_of_marks(marks, core_values(view), len(numbers), steps)
        return Output(
            {"number": numbers, "sums": sums, "extremes": extremes, "quantum": np.array(steps)}
        )

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        found: dict[tuple[int, int], list[tuple[int, Record, int]]] = {}
        for tile, record in records:
            for row, number in enumerate(record["number"].tolist()):
                key = (self.grid.tile(tile).frame, number)
                found.setdefault(key, []).append((tile, record, row))
        keys = sorted(found)
        starts = [(k, tile) for k, key in enumerate(keys) for tile, _, _ in found[key]]
        centre = [_centre([(record, row) for _, record, row in found[key]]) for key in keys]
        names = np.array(keys, np.int64).reshape(-1, 2)
        pairs = np.array(sorted(starts), np.int64).reshape(-1, 2)
        return {
            **state,
            CENTRE: np.array(centre, np.float64),
            FRAME: names[:, 0],
            NUMBER: names[:, 1],
            START_SEED: pairs[:, 0],
            START_TILE: pairs[:, 1],
        }


def _centre(parts: list[tuple[Record, int]]) -> float:
    """Mean of a seed that lies in some tiles; NaN where it has no value."""
    count = sum(int(record["sums"][row, 0]) for record, row in parts)
    if count == 0:
        return float("nan")
    total = sum(int(record["sums"][row, 1]) for record, row in parts)
    low = min(float(record["extremes"][row, 0]) for record, row in parts)
    high = max(float(record["extremes"][row, 1]) for record, row in parts)
    offset, step = parts[0][0]["quantum"].tolist()
    return mean_value(total, count, Quantum(offset, step), (low, high))


def marks_of_numbers(labels: NDArray[Any], numbers: Longs, marks: NDArray[np.int32]) -> SeedMarks:
    """`marks[k]` where a label is `numbers[k]`, which ascend; 0 where it is 0."""
    table = np.concatenate([marks, np.zeros(1, np.int32)])
    place = np.searchsorted(numbers, labels.astype(np.int64))
    place[labels == 0] = len(numbers)
    found: SeedMarks = relabel(place, table)
    return found


def single_pixels(pixels: Longs, centre: NDArray[np.float64], grid: TileGrid) -> State:
    """The state of seeds of one pixel each."""
    return {
        PIXEL: pixels,
        CENTRE: centre,
        START_SEED: np.arange(len(pixels), dtype=np.int64),
        START_TILE: tiles_of(pixels, grid),
    }


def tiles_of(pixels: Longs, grid: TileGrid) -> Longs:
    """Numbers of the tiles that hold pixels, given by linear index among all frames."""
    frame, place = np.divmod(pixels, int(np.prod(grid.shape)))
    index = [
        p // side for p, side in zip(np.unravel_index(place, grid.shape), grid.side, strict=True)
    ]
    inside = np.ravel_multi_index(tuple(index), grid.counts)
    found: Longs = frame * grid.tiles_per_frame + inside
    return found


def values_at(view: TileView, pixels: Longs) -> NDArray[np.float64]:
    """Grey values of pixels of a core, given by linear index; NaN where the image has none."""
    image, valid = view.image()[0], view.valid()
    place = np.unravel_index(pixels % int(np.prod(view.grid.shape)), view.grid.shape)
    local = tuple(p - a for p, a in zip(place, view.tile.core.start, strict=True))
    found = image[local].astype(np.float64)
    return found if valid is None else np.where(valid[local], found, np.nan)
