"""The measuring pass: every tile with its final labels, once, for all families together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.job import ImageJob
from pipeline.kernels.relabel import numbered
from pipeline.measurements.family import Gathering, Halo, MeasureWindow, padded
from pipeline.methods.base import Output, Round, State
from pipeline.records import Record
from pipeline.view import TileView

#: Between the name of a family and that of its column, in the keys of records.
SEPARATOR = "."


@dataclass(frozen=True)
class MeasureRound(Round):
    """Map families over tiles; what they find is merged when the table is written."""

    families: tuple[Gathering, ...]

    name: ClassVar[str] = "measure"
    reads: ClassVar[tuple[str, ...]] = ()

    def map(self, view: TileView, state: State) -> Output:
        window = measure_window(view, widest_halo(view.job, self.families))
        record: Record = {}
        for family in self.families:
            for key, column in family.map(window).items():
                record[f"{family.name}{SEPARATOR}{key}"] = column
        return Output(record)

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        raise NotImplementedError("rows are merged band by band, not reduced")


def widest_halo(job: ImageJob, families: Sequence[Gathering]) -> Halo:
    """Pixels around a core that hold the halos of all families."""
    z, y, x = np.max([(0, 0, 0), *(family.halo(job) for family in families)], axis=0).tolist()
    return z, y, x


def measure_window(view: TileView, halo: Halo) -> MeasureWindow:
    """Final labels of a tile and its halo, numbered in their order."""
    margin = halo[3 - view.grid.ndim :]
    box = view.window(margin)
    labels, names = _compact(view.objects(margin))
    core = view.tile.core
    whole = padded(labels, core.start, core.stop, box.start, box.stop, halo)
    return MeasureWindow(view, whole, halo, names)


def _compact(
    labels: NDArray[np.unsignedinteger],
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Numbers 1..n for the labels that occur, in their order.

    Labels of a window lie close together, for they are numbered in raster order.
    """
    high = int(labels.max(initial=0))
    if high == 0:
        return np.zeros(labels.shape, np.uint32), np.empty(0, np.int64)
    inside = labels > 0
    low = int(labels.min(initial=high, where=inside))
    shifted = np.where(inside, labels - np.asarray(low - 1, labels.dtype), 0)
    numbers, found = numbered(shifted, high - low + 2)
    return numbers, found + (low - 1)
