"""Finding the numbers of a normalisation: for a whole image or dataset, never for a tile."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from pipeline.foreground import BOUNDS, COUNTS, add_counts, count_values, histogram_of
from pipeline.methods.base import Context, Output, Round, State
from pipeline.nets.normalisation import Fixed, MeanStd, Normalisation, Percentiles, Range, Terms
from pipeline.records import Record
from pipeline.thresholds import Histogram
from pipeline.view import TileView


def is_surveyed(rule: Normalisation) -> bool:
    """Whether a pass over the pixels is needed."""
    return isinstance(rule, Percentiles | MeanStd)


def is_dataset_wide(rule: Normalisation) -> bool:
    """Whether all images are normalised alike."""
    return isinstance(rule, Percentiles | MeanStd) and rule.scope == "dataset"


def survey(rule: Normalisation, key: str, state: State, context: Context) -> Round | None:
    """The round that finds the numbers; None when `state` holds them, or none are needed."""
    if key in state or not isinstance(rule, Percentiles | MeanStd):
        return None
    return ChannelSurvey(rule, key, context.channels, rule.scope)


def terms(rule: Normalisation, key: str, state: State, context: Context) -> Terms:
    """Offset and scale of every channel, see `pipeline.nets.normalisation`."""
    if isinstance(rule, Fixed):
        return rule.terms()
    if isinstance(rule, Range):
        return rule.terms(context.dtype, context.channels)
    first, second = state[key]
    return rule.terms(first, second)


@dataclass(frozen=True)
class ChannelSurvey(Round):
    """Count the grey values of every channel, and conclude the two numbers that a rule needs.

    The state has them under `key` as an array of shape (2, C), float64.
    """

    rule: Percentiles | MeanStd
    key: str
    channels: int
    scope: Literal["image", "dataset"] = "image"

    name: ClassVar[str] = "normalisation"

    def map(self, view: TileView, state: State) -> Output:
        found = [count_values(view, channel) for channel in range(self.channels)]
        return Output({key: np.stack([one[key] for one in found]) for key in (COUNTS, BOUNDS)})

    def combine(self, records: Iterable[Record]) -> Record:
        return add_counts(records)

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        total = add_counts(record for _, record in records)
        pairs = [
            self._pair(histogram_of({COUNTS: counts, BOUNDS: bounds}))
            for counts, bounds in zip(total[COUNTS], total[BOUNDS], strict=True)
        ]
        return {**state, self.key: np.array(pairs).T}

    def _pair(self, histogram: Histogram) -> tuple[float, float]:
        if len(histogram.counts) == 0:  # no pixel has a value
            return 0.0, 0.0
        if isinstance(self.rule, MeanStd):
            return mean_and_std(histogram)
        return percentile(histogram, self.rule.low), percentile(histogram, self.rule.high)


def percentile(histogram: Histogram, percent: float) -> float:
    """The percentile of counted grey values, interpolated between neighbours as NumPy does."""
    total = np.cumsum(histogram.counts)
    place = percent / 100 * (int(total[-1]) - 1)
    below, above = np.floor(place), np.ceil(place)
    low, high = (
        float(histogram.centres[np.searchsorted(total, rank, side="right")])
        for rank in (below, above)
    )
    return low + (high - low) * float(place - below)


def mean_and_std(histogram: Histogram) -> tuple[float, float]:
    """Mean and standard deviation of counted grey values."""
    counts, values = histogram.counts, histogram.centres.astype(np.float64)
    n = float(counts.sum())
    mean = float((counts * values).sum()) / n
    variance = float((counts * (values - mean) ** 2).sum()) / n
    return mean, variance**0.5
