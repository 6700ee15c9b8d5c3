"""Modes of grey values or colours: where the mean shift of a flat kernel comes to rest.

Grey values climb on their histogram, so every pixel counts. Colours climb by scikit-learn on a
sample of the pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.foreground import HistogramSurvey
from pipeline.methods.base import State
from pipeline.thresholds import Histogram

Floats = NDArray[np.float64]

#: Keys of the state: modes of shape (n,) or (n, C), float64; the bandwidth, a float64.
MODES = "mean_shift.modes"
BANDWIDTH = "mean_shift.bandwidth"

#: A mean that moves less than this part of the bandwidth has arrived.
STANDSTILL = 1e-3
MOST_STEPS = 300
#: Share of the pixels that lie within the default bandwidth of a pixel, on average.
SHARE = 0.3
#: Rows of a sample that the default bandwidth is taken from: it grows with their square.
BANDWIDTH_ROWS = 2000
#: Parts of the range that are told apart where most pixels are equal.
FINEST = 65535
#: With more features than this, the middle of a bin may lie far from all rows in the bin.
BINNED_FEATURES = 3


@dataclass(frozen=True)
class ModeSurvey(HistogramSurvey):
    """Find the bandwidth and the modes of the histogram."""

    bandwidth: float | None
    most: int
    scope: Literal["image", "dataset"] = "image"

    name: ClassVar[str] = "modes"

    def conclude(self, histogram: Histogram) -> State:
        bandwidth = self.bandwidth or estimated_bandwidth(histogram)
        found = modes(histogram, bandwidth, self.most)
        return {MODES: found, BANDWIDTH: np.array(bandwidth)}


def estimated_bandwidth(histogram: Histogram, share: float = SHARE) -> float:
    """Mean, over all pixels, of the radius that holds a share of all pixels.

    Returns
    -------
    float
        That of `sklearn.cluster.estimate_bandwidth` for whole numbers, else within a bin of it; at
        least the distance of two bins.
    """
    counts = histogram.counts
    if len(counts) < 2:
        return 1.0
    step = float(histogram.centres[1] - histogram.centres[0])
    number = np.concatenate([[0], np.cumsum(counts)])
    wanted = max(1, int(number[-1] * share))
    place = np.flatnonzero(counts)
    low, high = np.zeros(len(place), np.int64), np.full(len(place), len(counts))
    while (low < high).any():  # the smallest radius, in bins, that holds enough
        middle = (low + high) // 2
        first, last = np.maximum(place - middle, 0), np.minimum(place + middle + 1, len(counts))
        enough = number[last] - number[first] >= wanted
        low, high = np.where(enough, low, middle + 1), np.where(enough, middle, high)
    radius = int((low * counts[place]).sum()) / int(number[-1])
    return max(radius, 1.0) * step


def modes(histogram: Histogram, bandwidth: float, most: int) -> Floats:
    """Modes of a histogram under a flat kernel, as `sklearn.cluster.MeanShift` finds them.

    Parameters
    ----------
    histogram : Histogram
    bandwidth : float
        Radius of the kernel.
    most : int
        How many of the strongest are kept.

    Returns
    -------
    ndarray of shape (n,), float64
        Ascending; empty where nothing was counted.
    """
    occupied = np.flatnonzero(histogram.counts)
    values = histogram.centres[occupied].astype(np.float64)
    counts = histogram.counts[occupied]
    if len(values) == 0:
        return values
    # Counted from the smallest value, sums of whole numbers stay exact.
    offset = values[0]
    number = np.concatenate([[0], np.cumsum(counts)])
    total = np.concatenate([[0.0], np.cumsum(counts * (values - offset))])
    mean = values.copy()
    moving = np.arange(len(mean))
    for _ in range(MOST_STEPS):
        first, last = _within(values, mean[moving], bandwidth)
        new = offset + (total[last] - total[first]) / (number[last] - number[first])
        resting = np.abs(new - mean[moving]) <= STANDSTILL * bandwidth
        mean[moving] = new
        moving = moving[~resting]
        if len(moving) == 0:
            break
    first, last = _within(values, mean, bandwidth)
    strength = number[last] - number[first]
    kept: list[float] = []
    for i in np.lexsort((-mean, -strength)):
        if all(abs(mean[i] - other) > bandwidth for other in kept):
            kept.append(float(mean[i]))
    return np.array(sorted(kept[:most]))


def _within(
    values: Floats, mean: Floats, bandwidth: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where the values within the bandwidth of each mean begin and end."""
    first = np.searchsorted(values, mean - bandwidth, "left")
    last = np.searchsorted(values, mean + bandwidth, "right")
    # Rounding must not leave a mean without the value that it stands on.
    return first, np.maximum(last, first + 1)


def thinned(values: Floats, counts: NDArray[np.int64], most: int) -> Floats:
    """Rows of a sample, each as often as it occurs; of more than `most`, evenly spaced ones.

    Parameters
    ----------
    values : ndarray of shape (N, C), float64
        Different rows in lexicographic order.
    counts : ndarray of shape (N,), int64
    most : int

    Returns
    -------
    ndarray of shape (min(M, `most`), C), float64
        Of the M rows that `counts` add up to.
    """
    total = int(counts.sum())
    size = min(total, most)
    places = np.arange(size, dtype=np.int64) * total // max(size, 1)
    return values[np.searchsorted(np.cumsum(counts), places, "right")]


def color_bandwidth(rows: Floats) -> float:
    """Mean radius around a row that holds 30 % of all rows.

    Parameters
    ----------
    rows : ndarray of shape (N, C), float64

    Returns
    -------
    float
        `sklearn.cluster.estimate_bandwidth` of 2,000 rows; at least 1 / 65,535 of the largest
        feature's span, and 1 where all rows are equal.
    """
    from sklearn import cluster  # noqa: PLC0415  takes a second that only a survey needs
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    if len(rows) == 0:
        return 1.0
    with threadpool_limits(1):
        found = float(
            cluster.estimate_bandwidth(
                rows, quantile=SHARE, n_samples=min(len(rows), BANDWIDTH_ROWS), random_state=0
            )
        )
    smallest = float(np.ptp(rows, axis=0).max()) / FINEST
    return max(found, smallest) or 1.0


def color_modes(rows: Floats, bandwidth: float, most: int) -> Floats:
    """Modes of rows under a flat kernel, by `sklearn.cluster.MeanShift`.

    Parameters
    ----------
    rows : ndarray of shape (N, C), float64
        In an order that does not depend on tiles.
    bandwidth : float
        Radius of the kernel.
    most : int
        How many of the strongest are kept.

    Returns
    -------
    ndarray of shape (n, C), float64
        In lexicographic order.
    """
    from sklearn import cluster  # noqa: PLC0415
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    if len(rows) == 0:
        return rows
    model = cluster.MeanShift(bandwidth=bandwidth, seeds=_seeds(rows, bandwidth))
    with threadpool_limits(1):
        model.fit(rows)
    strongest = np.asarray(model.cluster_centers_[:most], np.float64)
    return strongest[np.lexsort(strongest.T[::-1])]


def _seeds(rows: Floats, bandwidth: float) -> Floats:
    """Where the climb begins: the middles of the bins of `bandwidth` that hold rows.

    They are those of `sklearn.cluster.get_bin_seeds`, which rounds large values to 32 bits.
    """
    bins, first = np.unique(np.round(rows / bandwidth), axis=0, return_index=True)
    if len(bins) == len(rows) or rows.shape[1] > BINNED_FEATURES:
        return rows[first]
    return bins * bandwidth
