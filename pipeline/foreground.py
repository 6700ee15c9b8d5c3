"""Telling foreground from background by thresholds, surveyed over the whole image."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.errors import MethodError
from pipeline.kernels.histogram import count_bins, count_whole_numbers
from pipeline.methods.base import Context, Output, Round, State
from pipeline.preprocess import natural_range
from pipeline.records import Record
from pipeline.thresholds import Histogram, RuleName, thresholds
from pipeline.view import TileView

#: Bins of a histogram of values that are not whole numbers of up to 16 bits.
BINS = 65536

COUNTS = "foreground.counts"
BOUNDS = "foreground.bounds"
#: Key of the thresholds in the state: shape (n,), float64, ascending.
THRESHOLD = "foreground.threshold"


class ForegroundRule(BaseModel):
    """Which pixels belong to objects.

    `value`: a number, in the units of the preprocessed image, or how to find it: "otsu",
    "multi_otsu", "li", "triangle", "yen", "isodata", "mean" or "minimum". `classes`: how many
    classes "multi_otsu" tells apart. `objects`: "bright" takes pixels above the value, the
    highest of several; "dark" those below or equal to it, the lowest of several. `scope`: one
    value an "image" or one for the whole "dataset".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float | RuleName = "otsu"
    classes: int = Field(default=2, ge=2, le=5)
    objects: Literal["bright", "dark"] = "bright"
    scope: Literal["image", "dataset"] = "image"

    @model_validator(mode="before")
    @classmethod
    def _three_classes(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("value") == "multi_otsu":
            return {"classes": 3, **given}
        return given

    @model_validator(mode="after")
    def _only_multi_otsu_has_classes(self) -> Self:
        if self.classes != 2 and self.value != "multi_otsu":
            raise ValueError("more than two classes need `value: multi_otsu`")
        return self

    @property
    def is_surveyed(self) -> bool:
        """Whether the value is found in a pass over the pixels."""
        return isinstance(self.value, str)

    def is_dataset_wide(self) -> bool:
        """Whether one threshold holds for all images."""
        return self.is_surveyed and self.scope == "dataset"

    def next_round(self, state: State, context: Context) -> Round | None:
        """The survey, as long as its result is not in the state."""
        if not isinstance(self.value, str) or THRESHOLD in state:
            return None
        name = context.name if self.scope == "image" else "the dataset"
        return ThresholdSurvey(self.value, self.classes, name, self.scope)

    def values(self, state: State) -> list[float]:
        """The thresholds, ascending."""
        return state[THRESHOLD].tolist() if isinstance(self.value, str) else [self.value]

    def limit(self, state: State) -> float:
        """The threshold that objects lie beyond."""
        return self.values(state)[-1 if self.objects == "bright" else 0]

    def mask(self, view: TileView, state: State, halo_px: int = 0) -> NDArray[np.bool_]:
        """Foreground of a window, shape (\\*window)."""
        return self.of_pixels(view.image(halo_px)[0], view.valid(halo_px), state)

    def of_pixels(
        self, image: NDArray[Any], valid: NDArray[np.bool_] | None, state: State
    ) -> NDArray[np.bool_]:
        """Foreground of pixels that are at hand; what is not finite is never foreground."""
        value = self.limit(state)
        limit = _comparable(value, image.dtype)
        mask: NDArray[np.bool_] = image > limit if self.objects == "bright" else image <= limit
        if math.isinf(value):
            mask = np.zeros(image.shape, np.bool_)
        return mask if valid is None else mask & valid

    def classes_of(
        self, image: NDArray[Any], valid: NDArray[np.bool_] | None, state: State
    ) -> NDArray[np.uint8]:
        """Class of each pixel: 1 up to the lowest threshold, one more above each; 0 is no value."""
        return classes_between(self.values(state), image, valid)


def classes_between(
    values: Sequence[float], image: NDArray[Any], valid: NDArray[np.bool_] | None
) -> NDArray[np.uint8]:
    """Class of each pixel: 1 up to the first of ascending values, one more above each; 0 where
    the image has no value."""
    classes = np.ones(image.shape, np.uint8)
    for value in values:
        classes += image > _comparable(value, image.dtype)
    if valid is not None:
        classes *= valid
    return classes


def _comparable(value: float, dtype: np.dtype[np.generic]) -> float | int:
    """The limit in the pixels' own arithmetic: an integer is above v just if above floor(v)."""
    if dtype.kind not in "iu" or math.isinf(value):
        return value
    limits = np.iinfo(dtype.name)
    return int(min(max(math.floor(value), limits.min - 1), limits.max))


class HistogramSurvey(Round):
    """One pass that counts grey values; a subclass says what follows from them.

    Whole numbers of up to 16 bits are counted each by itself. Other values are counted in 65,536
    bins over the range that they cannot leave: the dtype's after a filter, the surveyed one else.
    """

    name: ClassVar[str] = "histogram"

    @abstractmethod
    def conclude(self, histogram: Histogram) -> State:
        """What the state gains."""

    def map(self, view: TileView, state: State) -> Output:
        return Output(count_values(view, 0))

    def combine(self, records: Iterable[Record]) -> Record:
        return add_counts(records)

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        total = add_counts(record for _, record in records)
        return {**state, **self.conclude(histogram_of(total))}


def count_values(view: TileView, channel: int) -> Record:
    """Count the grey values of one channel of a core.

    Whole numbers of up to 16 bits are counted each by itself, other values in `BINS` equal bins.
    """
    image = view.image()[channel]
    valid = view.valid()
    low, high = view.value_range(channel)
    whole = natural_range(image.dtype.name) is not None
    if whole:
        counts = count_whole_numbers(image, int(low), int(high))
    else:
        values = image if valid is None else image[valid]
        finite = math.isfinite(low)
        counts = count_bins(values, low, high, BINS) if finite else np.zeros(BINS, np.int64)
    return {COUNTS: counts, BOUNDS: np.array([low, high, float(whole)])}


def histogram_of(total: Record) -> Histogram:
    """The histogram that counts of `count_values` add up to."""
    low, high, whole = total[BOUNDS]
    return Histogram.of(total[COUNTS], float(low), float(high), whole=bool(whole))


@dataclass(frozen=True)
class ThresholdSurvey(HistogramSurvey):
    """Find the thresholds of a rule."""

    rule: RuleName
    classes: int = 2
    image: str = "image"
    scope: Literal["image", "dataset"] = "image"

    def conclude(self, histogram: Histogram) -> State:
        return {THRESHOLD: np.array(thresholds(self.rule, histogram, self.classes, self.image))}


def add_counts(records: Iterable[Record]) -> Record:
    """Add what `count_values` found in several cores.

    Raises
    ------
    MethodError
        If they were counted over other bounds.
    """
    total: Record | None = None
    for record in records:
        if total is None:
            total = dict(record)
        elif not np.array_equal(total[BOUNDS], record[BOUNDS]):
            raise MethodError(
                "segment.scope",
                "the images of the dataset differ in dtype or value range, so that their grey "
                "values cannot be counted together",
                "Split the archive by pixel type, or use `scope: image`.",
            )
        else:
            total[COUNTS] = total[COUNTS] + record[COUNTS]
    if total is None:
        raise MethodError("segment", "there is no image to survey")
    return total
