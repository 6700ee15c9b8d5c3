"""Telling foreground from background by one threshold, surveyed over the whole image."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from skimage.filters import threshold_otsu

from pipeline.errors import MethodError
from pipeline.kernels.histogram import count_bins, count_whole_numbers
from pipeline.methods.base import Output, Round, State
from pipeline.preprocess import natural_range
from pipeline.records import Record
from pipeline.view import TileView

#: Bins of a histogram of values that are not whole numbers of up to 16 bits.
BINS = 65536

COUNTS = "foreground.counts"
BOUNDS = "foreground.bounds"
THRESHOLD = "foreground.threshold"


class ForegroundRule(BaseModel):
    """Which pixels belong to objects.

    `value`: a number, in the units of the preprocessed image, or "otsu". `objects`: "bright"
    takes pixels above the value, "dark" those below or equal. `scope`: one value an "image" or
    one for the whole "dataset".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float | Literal["otsu"] = "otsu"
    objects: Literal["bright", "dark"] = "bright"
    scope: Literal["image", "dataset"] = "image"

    def is_dataset_wide(self) -> bool:
        """Whether one threshold holds for all images."""
        return self.value == "otsu" and self.scope == "dataset"

    def next_round(self, state: State) -> Round | None:
        """The survey, as long as its result is not in the state."""
        if self.value == "otsu" and THRESHOLD not in state:
            return OtsuSurvey(self.scope)
        return None

    def mask(self, view: TileView, state: State, halo_px: int = 0) -> NDArray[np.bool_]:
        """Foreground of a window, shape (\\*window)."""
        return self.of_pixels(view.image(halo_px)[0], view.valid(halo_px), state)

    def of_pixels(
        self, image: NDArray[Any], valid: NDArray[np.bool_] | None, state: State
    ) -> NDArray[np.bool_]:
        """Foreground of pixels that are at hand; what is not finite is never foreground."""
        value = float(state[THRESHOLD]) if self.value == "otsu" else float(self.value)
        limit = _comparable(value, image.dtype)
        mask: NDArray[np.bool_] = image > limit if self.objects == "bright" else image <= limit
        if math.isinf(value):
            mask = np.zeros(image.shape, np.bool_)
        return mask if valid is None else mask & valid


def _comparable(value: float, dtype: np.dtype[np.generic]) -> float | int:
    """The limit in the pixels' own arithmetic: an integer is above v just if above floor(v)."""
    if dtype.kind not in "iu" or math.isinf(value):
        return value
    limits = np.iinfo(dtype.name)
    return int(min(max(math.floor(value), limits.min - 1), limits.max))


@dataclass(frozen=True)
class OtsuSurvey(Round):
    """One pass that counts grey values; its reduction is Otsu's threshold.

    Whole numbers of up to 16 bits are counted each by itself. Other values are counted in 65,536
    bins over the range that they cannot leave: the dtype's after a filter, the surveyed one else.

    References
    ----------
    Otsu, A threshold selection method from gray-level histograms, 1979,
    doi:10.1109/TSMC.1979.4310076
    """

    name: ClassVar[str] = "otsu"
    scope: Literal["image", "dataset"] = "image"

    def map(self, view: TileView, state: State) -> Output:
        image = view.image()[0]
        valid = view.valid()
        low, high = view.value_range()
        whole = natural_range(image.dtype.name) is not None
        if whole:
            counts = count_whole_numbers(image, int(low), int(high))
        else:
            values = image if valid is None else image[valid]
            finite = math.isfinite(low)
            counts = count_bins(values, low, high, BINS) if finite else np.zeros(BINS, np.int64)
        return Output({COUNTS: counts, BOUNDS: np.array([low, high, float(whole)])})

    def combine(self, records: Iterable[Record]) -> Record:
        return _add(records)

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        total = _add(record for _, record in records)
        low, high, whole = total[BOUNDS]
        value = otsu(total[COUNTS], float(low), float(high), whole=bool(whole))
        return {**state, THRESHOLD: np.array(value)}


def _add(records: Iterable[Record]) -> Record:
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


def otsu(counts: NDArray[Any], low: float, high: float, *, whole: bool) -> float:
    """Otsu's threshold of a histogram, as scikit-image computes it.

    Parameters
    ----------
    counts : ndarray of shape (n,), integer
    low, high : float
        Smallest and largest value; the bins are the whole numbers between them, or equal parts.
    whole : bool

    Returns
    -------
    float
        Infinity where nothing was counted.
    """
    filled = np.flatnonzero(counts)
    if len(filled) == 0:
        return math.inf
    first, last = int(filled[0]), int(filled[-1]) + 1
    if whole:
        centres = np.arange(first, last) + low
    else:
        width = (high - low) / len(counts)
        centres = low + (np.arange(first, last) + 0.5) * width
    if len(centres) == 1:
        return float(centres[0])
    return float(threshold_otsu(hist=(counts[first:last], centres)))
