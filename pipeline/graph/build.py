"""The round that counts every tile's part of the region adjacency graph."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.features import ColorSpace, features
from pipeline.gradient import gradient_magnitude
from pipeline.graph.region_graph import PREFIX, RegionGraph, merge_graphs
from pipeline.kernels.region_sums import border_sums, region_sums
from pipeline.methods.base import Output, Round, State
from pipeline.records import Record
from pipeline.view import TileView

#: Steps of values that are no whole numbers of up to 16 bits, over their range.
STEPS = 2**20 - 1
#: The mark that a state with a graph has.
BUILT = f"{PREFIX}number"


@dataclass(frozen=True)
class BuildGraph(Round):
    """Sums of every region and border, from the core and a ring of 1 px around it.

    Parameters
    ----------
    space : {"raw", "lab"}
        What the values of a pixel are.
    boundary : int or None
        The selected channel whose values are taken along borders; None: the gradient.
    connectivity : int
    """

    space: ColorSpace
    boundary: int | None
    connectivity: int

    name: ClassVar[str] = "graph"

    def map(self, view: TileView, state: State) -> Output:
        labels = view.objects(1)
        wide, ring = view.window(2), view.window(1)
        core = view.tile.core.within(ring)
        image = view.image(2)
        if self.boundary is None:
            border = gradient_magnitude(image)[ring.within(wide)]
        else:
            border = image[self.boundary][ring.within(wide)]
        seen = image[(slice(None), *view.tile.core.within(wide))]
        if self.space == "lab":
            seen = features(view, self.space)
        del image  # a window is large
        offset, step = self._scales(view)
        if seen.dtype.kind == "u" and seen.dtype.itemsize <= 2:
            values = np.ascontiguousarray(seen)  # they are steps from 0 as they are
        else:
            scales = zip(seen, offset[:-1], step[:-1], strict=True)
            values = np.stack([_steps(v, o, s) for v, o, s in scales])
        regions = region_sums(np.ascontiguousarray(labels[core]), values)
        borders = border_sums(labels, core, border, self.connectivity, offset[-1], step[-1])
        return Output(RegionGraph(*regions, *borders, offset, step).record())

    def combine(self, records: Iterable[Record]) -> Record:
        return merge_graphs(records)

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        return {**state, **merge_graphs(record for _, record in records)}

    def _scales(self, view: TileView) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Offset and step of each channel and of the boundary: the same for all tiles."""
        dtype = np.dtype(view.context.dtype)
        ranges = [view.value_range(c) for c in range(view.context.channels)]
        scales = [_scale(dtype, *span) for span in ranges]
        if self.boundary is not None:
            edge = scales[self.boundary]
        else:
            # The gradient of a channel is at most its range; squares of channels add up.
            widest = max(high - low for low, high in ranges)
            edge = _scale(np.dtype(np.float64), 0.0, widest * len(ranges) ** 0.5)
        if self.space == "lab":
            scales = [(0.0, 2.0**-12), (-128.0, 2.0**-12), (-128.0, 2.0**-12)]
        both = np.array([*scales, edge])
        return both[:, 0], both[:, 1]


def _scale(dtype: np.dtype[np.generic], low: float, high: float) -> tuple[float, float]:
    if dtype.kind in "iu" and dtype.itemsize <= 2:
        return float(np.iinfo(dtype.name).min), 1.0
    span = high - low
    if not np.isfinite(span) or span <= 0:
        return (low if np.isfinite(low) else 0.0), 1.0
    return low, span / STEPS


def _steps(values: NDArray[Any], offset: float, step: float) -> NDArray[np.int64]:
    """Values as whole steps from the offset, rounded to the nearest."""
    if values.dtype.kind in "iu" and step == 1.0:
        return values.astype(np.int64) - int(offset)
    return np.rint((values.astype(np.float64) - offset) / step).astype(np.int64)
