"""Merging parts that are too small into a neighbour, decided when the whole parts are known.

join -> sizes and borders of parts, summed over tiles -> what is merged -> labels anew
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.box import Box
from pipeline.kernels.relabel import occurring, relabel
from pipeline.kernels.small_parts import border_codes, count_pixels, merge_small
from pipeline.methods.base import EmittingRound, JoinRound, Output, Round, State, TileLabels
from pipeline.pieces import pair_codes, split_codes
from pipeline.records import Record
from pipeline.view import TileView

JOINED = "small_parts.joined"
#: Parts that change their number, ascending (n,), and what they become (n,), int64.
SMALL = "small_parts.small"
INTO = "small_parts.into"
MERGED = "small_parts.merged"


def small_parts_round(state: State, least_px: int) -> Round | None:
    """The next round of merging parts of less than `least_px`; None when they are merged."""
    if JOINED not in state:
        return JoinRound(JOINED)
    if SMALL not in state:
        return MeasureParts(least_px)
    return None if MERGED in state else MergeParts()


@dataclass(frozen=True)
class MeasureParts(Round):
    """Count the pixels of parts and the faces between them."""

    least_px: int

    name: ClassVar[str] = "borders"

    def map(self, view: TileView, state: State) -> Output:
        window, core = view.window(1), view.tile.core
        numbers, parts = compact(view.objects(1))
        deep = parts.reshape((1, *window.shape)[-3:])
        inside = _deep_box(core, window)
        sizes = np.zeros(len(numbers), np.int64)
        count_pixels(deep, inside, sizes)
        # What is large enough within this tile is so everywhere; the rest decides later.
        large = sizes >= self.least_px
        codes = np.empty(border_codes(deep, inside, large, np.empty(0, np.int64)), np.int64)
        border_codes(deep, inside, large, codes)
        found, lengths = np.unique(codes, return_counts=True)
        low, high = np.divmod(found, max(len(numbers), 1))
        here = sizes > 0
        return Output(
            {
                "parts": numbers[here],
                "sizes": sizes[here],
                "pairs": pair_codes(numbers[low], numbers[high]),
                "lengths": lengths.astype(np.int64),
            }
        )

    def combine(self, records: Iterable[Record]) -> Record:
        known = list(records)
        parts, sizes = _added(known, "parts", "sizes")
        pairs, lengths = _added(known, "pairs", "lengths")
        return {"parts": parts, "sizes": sizes, "pairs": pairs, "lengths": lengths}

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        total = self.combine(record for _, record in records)
        sizes = np.zeros(int(total["parts"].max(initial=0)) + 1, np.int64)
        sizes[total["parts"]] = total["sizes"]
        pairs = split_codes(total["pairs"])
        needed = (sizes[pairs] < self.least_px).any(axis=1)
        becomes = merge_small(sizes, pairs[needed], total["lengths"][needed], self.least_px)
        changed = np.flatnonzero(becomes != np.arange(len(becomes)))
        return {**state, SMALL: changed, INTO: becomes[changed]}


@dataclass(frozen=True)
class MergeParts(EmittingRound):
    """Label what the parts of every core have become."""

    name: ClassVar[str] = "merge"
    done: ClassVar[str] = MERGED

    def map(self, view: TileView, state: State) -> Output:
        numbers, parts = compact(view.objects())
        place = np.searchsorted(state[SMALL], numbers)
        changed = place < len(state[SMALL])
        changed[changed] = state[SMALL][place[changed]] == numbers[changed]
        numbers[changed] = state[INTO][place[changed]]
        keys, label = np.unique(numbers, return_inverse=True)
        # -1, no part, is the last entry of the table.
        table = np.append(label + 1, 0).astype(np.uint32)
        return Output({}, TileLabels(relabel(parts, table), keys=keys))


def compact(objects: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The numbers that occur, ascending, and where each pixel's is among them; -1 for 0."""
    there = occurring(objects, int(objects.max(initial=0)) + 1)
    there[0] = False
    table = np.cumsum(there, dtype=np.int32) - np.int32(1)
    table[0] = -1
    return np.flatnonzero(there), relabel(objects, table)


def _deep_box(core: Box, window: Box) -> NDArray[np.int64]:
    cut = [(s.start, s.stop) for s in core.within(window)]
    return np.array([(0, 1)] * (3 - core.ndim) + cut, np.int64)


def _added(records: list[Record], keys: str, values: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Different keys, ascending, and the sums of their values."""
    found, place = np.unique(
        np.concatenate([record[keys] for record in records]), return_inverse=True
    )
    sums = np.zeros(len(found), np.int64)
    np.add.at(sums, place, np.concatenate([record[values] for record in records]))
    return found, sums
