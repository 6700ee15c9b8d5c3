"""Global thresholds from a histogram: every rule of scikit-image that looks at grey values only.

On whole numbers the results are those of `skimage.filters` to the last digit, for the counts hold
all there is to know. Other values are counted in bins, and a threshold is the middle of a bin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from skimage.filters import (
    threshold_isodata,
    threshold_minimum,
    threshold_multiotsu,
    threshold_otsu,
    threshold_yen,
)

from pipeline.errors import MethodError

RuleName = Literal["otsu", "multi_otsu", "li", "triangle", "yen", "isodata", "mean", "minimum"]

#: Rules that search among peaks or pairs of levels see no more levels than `MOST_LEVELS`; above
#: that, and for values in bins, they see this many equal bins, scikit-image's own number.
FEW_BINS = 256
MOST_LEVELS = 1024


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts from the smallest to the largest value that occurs.

    Parameters
    ----------
    counts : ndarray of shape (n,), int64
        The first and the last are not 0.
    centres : ndarray of shape (n,), int64 or float64
        Grey values: whole numbers, or the middles of equal bins.
    """

    counts: NDArray[np.int64]
    centres: NDArray[Any]

    @classmethod
    def of(cls, counts: NDArray[Any], low: float, high: float, *, whole: bool) -> Histogram:
        """Cut off the empty ends of counts over [`low`, `high`].

        `whole`: a count for each whole number; otherwise the counts are of equal bins.
        """
        filled = np.flatnonzero(counts)
        first, last = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, 0)
        trimmed = counts[first:last].astype(np.int64)
        if whole:
            return cls(trimmed, np.arange(first, last) + int(low))
        width = (high - low) / len(counts)
        return cls(trimmed, low + (np.arange(first, last) + 0.5) * width)

    @property
    def whole(self) -> bool:
        """Whether every value has its own count."""
        return self.centres.dtype.kind == "i"

    def with_few_bins(self) -> Histogram:
        """The same counts in at most `FEW_BINS` equal bins, if these are too many."""
        size = len(self.counts)
        if size <= (MOST_LEVELS if self.whole else FEW_BINS):
            return self
        step = float(self.centres[1] - self.centres[0])
        low, span = float(self.centres[0]) - step / 2, step * size
        place = np.arange(size) * FEW_BINS // size
        counts = np.bincount(place, self.counts, FEW_BINS).astype(np.int64)
        return Histogram(counts, low + (np.arange(FEW_BINS) + 0.5) * (span / FEW_BINS))


def thresholds(
    rule: RuleName, histogram: Histogram, classes: int = 2, name: str = "image"
) -> tuple[float, ...]:
    """Grey values that part the classes.

    Parameters
    ----------
    rule : str
    histogram : Histogram
    classes : int
        Wanted by "multi_otsu".
    name : str
        The image, for messages.

    Returns
    -------
    tuple of float
        Ascending; one, or for "multi_otsu" ``classes - 1``, or fewer where there are fewer values.
        Infinity where nothing was counted; the value itself where there is only one.

    Raises
    ------
    MethodError
        "minimum" finds no two peaks.

    References
    ----------
    Sezgin, Sankur, Survey over image thresholding techniques, 2004, doi:10.1117/1.1631315
    """
    if len(histogram.counts) == 0:
        return (math.inf,)
    if len(histogram.counts) == 1:
        return (float(histogram.centres[0]),)
    if rule == "multi_otsu":
        return _multi_otsu(histogram.with_few_bins(), classes)
    if rule == "minimum":
        return (_minimum(histogram.with_few_bins(), name),)
    return (_RULES[rule](histogram),)


def _otsu(histogram: Histogram) -> float:
    """Otsu, 1979, doi:10.1109/TSMC.1979.4310076"""
    return float(threshold_otsu(hist=(histogram.counts, histogram.centres)))


def _yen(histogram: Histogram) -> float:
    """Yen, Chang, Chang, 1995, doi:10.1109/83.366472"""
    return float(threshold_yen(hist=(histogram.counts, histogram.centres)))


def _isodata(histogram: Histogram) -> float:
    """Ridler, Calvard, 1978, doi:10.1109/TSMC.1978.4310039"""
    return float(threshold_isodata(hist=(histogram.counts, histogram.centres)))


def _mean(histogram: Histogram) -> float:
    if histogram.whole:
        # Whole numbers add up exactly, whatever their order.
        total = sum(
            int(c) * int(v) for c, v in zip(histogram.counts, histogram.centres, strict=True)
        )
        return total / int(histogram.counts.sum())
    return float(np.average(histogram.centres, weights=histogram.counts))


def _li(histogram: Histogram) -> float:
    """Li, Tam, An iterative algorithm for minimum cross entropy thresholding, 1998,
    doi:10.1016/S0167-8655(98)00057-9
    """
    lowest = histogram.centres[0]
    values = histogram.centres - lowest
    # In single precision as scikit-image has them, or the last digit would differ.
    weights = histogram.counts.astype(np.float32) if histogram.whole else histogram.counts
    tolerance = 0.5 if histogram.whole else float(values[1] - values[0]) / 2
    following = _mean(Histogram(histogram.counts, values))
    current = -2 * tolerance
    while abs(following - current) > tolerance:
        current = following
        above = values > current
        mean_above = np.average(values[above], weights=weights[above])
        mean_below = np.average(values[~above], weights=weights[~above])
        if mean_below == 0:
            break
        following = (mean_below - mean_above) / (np.log(mean_below) - np.log(mean_above))
    return float(following + lowest)


def _triangle(histogram: Histogram) -> float:
    """Zack, Rogers, Latt, 1977, doi:10.1177/25.7.70454"""
    few = histogram if histogram.whole else histogram.with_few_bins()
    counts = few.counts
    size, peak = len(counts), int(np.argmax(counts))
    # Towards the longer tail: the first and the last level are occupied.
    flip = peak < size - 1 - peak
    if flip:
        counts, peak = counts[::-1], size - 1 - peak
    height, width = float(counts[peak]), float(peak)
    norm = math.sqrt(height**2 + width**2)
    x = np.arange(peak)
    distance = height / norm * x - width / norm * counts[:peak]
    level = int(np.argmax(distance))
    return float(few.centres[size - level - 1 if flip else level])


def _minimum(histogram: Histogram, name: str) -> float:
    """Prewitt, Mendelsohn, 1966, doi:10.1111/j.1749-6632.1965.tb11715.x"""
    try:
        return float(threshold_minimum(hist=(histogram.counts, histogram.centres)))
    except RuntimeError as error:
        raise MethodError(
            name,
            "the `minimum` threshold needs a histogram with two peaks, and smoothing this one "
            "leaves no two",
            "Use another rule, for example `otsu`.",
        ) from error


def _multi_otsu(histogram: Histogram, classes: int) -> tuple[float, ...]:
    """Liao, Chen, Chung, 2001, doi:10.6688/JISE.2001.17.5.1"""
    levels = np.flatnonzero(histogram.counts)
    if len(levels) <= classes:
        return tuple(float(v) for v in histogram.centres[levels[:-1]])
    # As shares, as scikit-image has them, or the last digit would differ.
    shares = histogram.counts / histogram.counts.sum()
    found = threshold_multiotsu(classes=classes, hist=(shares, histogram.centres))
    return tuple(float(v) for v in found)


_RULES: Mapping[str, Callable[[Histogram], float]] = {
    "otsu": _otsu,
    "li": _li,
    "triangle": _triangle,
    "yen": _yen,
    "isodata": _isodata,
    "mean": _mean,
}
