"""Scoring one pair of images tile by tile: what is in memory is a tile and the table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ImageError
from pipeline.grid import Tile
from pipeline.scores.boundary import COUNTS, count_borders, halo_px
from pipeline.scores.contingency import Overlaps
from pipeline.scores.information import information_sums
from pipeline.scores.matching import Candidates, find_candidates, match_sums
from pipeline.scores.open_pair import OpenPair
from pipeline.scores.pairing import Pair
from pipeline.scores.panoptic import panoptic_sums
from pipeline.scores.pixels import class_sums, foreground_sums
from pipeline.scores.rand import rand_sums
from pipeline.scores.settings import Settings
from pipeline.scores.verdicts import Verdicts, judge

Array = NDArray[Any]

#: Tiles that one process counts before it answers: of planes, 17 million px.
TILES_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Counted:
    """Whole numbers of some tiles; they add up.

    Parameters
    ----------
    overlaps : Overlaps
    borders : ndarray of shape (groups, 4), int64
        `COUNTS` of every group, px.
    """

    overlaps: Overlaps
    borders: NDArray[np.int64]

    @classmethod
    def sum(cls, parts: Iterable[Counted]) -> Counted:
        """Add up; the order does not matter. Each part is let go when it is added."""
        borders: list[NDArray[np.int64]] = []

        def tables() -> Iterator[Overlaps]:
            for part in parts:
                borders[:] = [np.sum([*borders, part.borders], axis=0)]
                yield part.overlaps

        overlaps = Overlaps.sum(tables())
        return cls(overlaps, borders[0])

    @property
    def candidates(self) -> Candidates:
        """Pairs that share pixels."""
        return find_candidates(self.overlaps)

    def sums(self, settings: Settings) -> dict[str, float]:
        """What the scores of the image are ratios of."""
        sums = {
            f"{group}/{name}": float(count)
            for group, row in zip(settings.groups, self.borders, strict=True)
            for name, count in zip(COUNTS, row.tolist(), strict=True)
        }
        if settings.classes:
            return sums | class_sums(self.overlaps, settings.classes)
        candidates = self.candidates
        return (
            sums
            | match_sums(candidates, settings.thresholds)
            | panoptic_sums(candidates)
            | rand_sums(self.overlaps)
            | information_sums(self.overlaps)
            | foreground_sums(self.overlaps)
        )


@dataclass(frozen=True, slots=True)
class Order:
    """Some tiles of a pair, or all of them.

    Parameters
    ----------
    pair : Pair
    settings : Settings
    first, stop : int
        Half-open; `stop` None: to the last tile.
    """

    pair: Pair
    settings: Settings
    first: int = 0
    stop: int | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """All that is kept of one image.

    Parameters
    ----------
    sums : dict of float
    verdicts : Verdicts
        What became of every object; empty where the numbers are classes.
    """

    sums: dict[str, float]
    verdicts: Verdicts


def count_tiles(order: Order) -> Counted:
    """Count some tiles of a pair.

    Raises
    ------
    ImageError
        They cannot be read, or cannot be compared.
    """
    with OpenPair(order.pair, order.settings) as images:
        return _count(images, order)


def score_small(order: Order) -> Scored | int | ImageError:
    """Score a pair of at most `TILES_AT_ONCE` tiles; of a larger one, say how many it has.

    Returns
    -------
    Scored or int or ImageError
        Errors of the image are returned: the others are scored.
    """
    try:
        with OpenPair(order.pair, order.settings) as images:
            tiles = len(images.grid)
            if tiles > TILES_AT_ONCE:
                return tiles
            return finish(_count(images, order), order.settings)
    except ImageError as error:
        return error.alone()


def score_part(order: Order) -> Counted | ImageError:
    """Count some tiles of a large pair; errors are returned."""
    try:
        return count_tiles(order)
    except ImageError as error:
        return error.alone()


def finish(counted: Counted, settings: Settings) -> Scored:
    """From the whole numbers of an image to what is kept of it."""
    verdicts = Verdicts.empty() if settings.classes else judge(counted.candidates)
    return Scored(counted.sums(settings), verdicts)


def _count(images: OpenPair, order: Order) -> Counted:
    stop = len(images.grid) if order.stop is None else order.stop
    tiles = map(images.grid.tile, range(order.first, stop))
    return Counted.sum(_each(images, tiles, order.settings))


def _each(images: OpenPair, tiles: Iterable[Tile], settings: Settings) -> Iterator[Counted]:
    for tile in tiles:
        truth, labels, core = images.read(tile, halo_px(settings.tolerance_px))
        overlaps = Overlaps.of_tile(tile.frame, truth[core], labels[core])
        yield Counted(overlaps, _borders(truth, labels, core, settings))


def _borders(
    truth: Array, labels: Array, core: tuple[slice, ...], settings: Settings
) -> NDArray[np.int64]:
    tolerance = settings.tolerance_px
    if not settings.classes:
        return count_borders(truth, labels, core, tolerance)[None]
    judged = truth != 0
    return np.stack(
        [
            count_borders(truth == number, labels == number, core, tolerance, judged)
            for number in range(1, len(settings.classes) + 1)
        ]
    )
