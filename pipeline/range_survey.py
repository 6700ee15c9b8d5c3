"""The value range of images whose dtype does not give one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pipeline.methods.base import Output, Round, State
from pipeline.records import Record
from pipeline.view import RANGE, TileView


@dataclass(frozen=True)
class RangeSurvey(Round):
    """Smallest and largest finite value of every channel; (inf, -inf) where there is none."""

    name: ClassVar[str] = "range"

    def map(self, view: TileView, state: State) -> Output:
        ranges = []
        for channel in range(view.job.info.shape[1]):
            pixels = view.raw([channel], view.tile.core)
            finite = pixels[np.isfinite(pixels)]
            low, high = (finite.min(), finite.max()) if finite.size else (np.inf, -np.inf)
            ranges.append([float(low), float(high)])
        return Output({RANGE: np.array(ranges)})

    def combine(self, records: Iterable[Record]) -> Record:
        found = np.stack([record[RANGE] for record in records])
        return {RANGE: np.stack([found[..., 0].min(axis=0), found[..., 1].max(axis=0)], axis=-1)}

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        return {**state, **self.combine(record for _, record in records)}
