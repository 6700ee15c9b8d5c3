"""The value range of images whose dtype does not give one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.methods.base import Output, Round, State
from pipeline.records import Record
from pipeline.view import RANGE, TileView


class ValueRanges(Round):
    """Smallest and largest finite value of every channel; (inf, -inf) where there is none.

    The state has them under `key` as an array of shape (C, 2), float64.
    """

    key: ClassVar[str]

    @abstractmethod
    def channels(self, view: TileView) -> Iterable[NDArray[Any]]:
        """Pixels of a core that count, channel by channel."""

    def map(self, view: TileView, state: State) -> Output:
        ranges = []
        for pixels in self.channels(view):
            finite = pixels[np.isfinite(pixels)]
            low, high = (finite.min(), finite.max()) if finite.size else (np.inf, -np.inf)
            ranges.append([float(low), float(high)])
        return Output({self.key: np.array(ranges)})

    def combine(self, records: Iterable[Record]) -> Record:
        found = np.stack([record[self.key] for record in records])
        return {self.key: np.stack([found[..., 0].min(axis=0), found[..., 1].max(axis=0)], -1)}

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        return {**state, **self.combine(record for _, record in records)}


@dataclass(frozen=True)
class RangeSurvey(ValueRanges):
    """Of every channel of the image as it is stored."""

    name: ClassVar[str] = "range"
    key: ClassVar[str] = RANGE

    def channels(self, view: TileView) -> Iterator[NDArray[Any]]:
        for channel in range(view.job.info.shape[1]):
            yield view.raw([channel], view.tile.core)
