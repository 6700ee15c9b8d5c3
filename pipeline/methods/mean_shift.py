"""Mean shift on grey values: classes are the peaks of the histogram."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.foreground import HistogramSurvey, classes_between
from pipeline.methods.base import Context, Round, State
from pipeline.methods.checks import check_single_channel
from pipeline.methods.classifier import Classifier
from pipeline.thresholds import Histogram
from pipeline.view import TileView

MODES = "mean_shift.modes"

#: A mean that moves less than this part of the bandwidth has arrived.
STANDSTILL = 1e-3
MOST_STEPS = 300


class MeanShift(Classifier):
    """Classes around the modes of the grey values; their number follows from `bandwidth`.

    Every grey value climbs to the mean of all values within `bandwidth` (in units of the
    preprocessed image; by default the mean radius that holds 30 % of all pixels) until it rests.
    Modes closer than that to a stronger one are dropped, and at most the `max_classes` strongest
    are kept. A pixel belongs to the nearest mode. Classes are numbered by grey value, 1 is the
    darkest; those that are not found stay empty. `scope`: one histogram an "image" or one for the
    "dataset".

    Exact: all values are counted, and the modes are the same for all tiles.

    References
    ----------
    Comaniciu, Meer, Mean shift: a robust approach toward feature space analysis, 2002,
    doi:10.1109/34.1000236
    """

    method: Literal["mean_shift"]
    bandwidth: float | None = Field(default=None, gt=0)
    max_classes: int = Field(default=8, ge=1, le=64)
    scope: Literal["image", "dataset"] = "image"

    def class_count(self) -> int:
        return self.max_classes

    def model_round(self, state: State, context: Context) -> Round | None:
        if MODES in state:
            return None
        return ModeSurvey(self.bandwidth, self.max_classes, self.scope)

    def classify(self, view: TileView, state: State, halo_px: int = 0) -> NDArray[np.uint8]:
        modes = state[MODES]
        if len(modes) == 0:
            return np.zeros(view.window(halo_px).shape, np.uint8)
        borders = ((modes[1:] + modes[:-1]) / 2).tolist()
        return classes_between(borders, view.image(halo_px)[0], view.valid(halo_px))

    def is_dataset_wide(self) -> bool:
        return self.scope == "dataset"

    def check(self, context: Context) -> None:
        super().check(context)
        check_single_channel(context)

    def peak_bytes_per_px(self) -> float:
        # image 4, comparison 1, classes 1, components 12
        return 18.0

    def least_passes(self) -> int:
        return 2

    def certificate(self, state: State) -> dict[str, Any]:
        return {
            "exact": True,
            "rule": "one set of modes for all tiles",
            "modes": state[MODES].tolist(),
        }


@dataclass(frozen=True)
class ModeSurvey(HistogramSurvey):
    """Find the modes of the histogram."""

    bandwidth: float | None
    most: int
    scope: Literal["image", "dataset"] = "image"

    name: ClassVar[str] = "modes"

    def conclude(self, histogram: Histogram) -> State:
        bandwidth = self.bandwidth or estimated_bandwidth(histogram)
        return {MODES: modes(histogram, bandwidth, self.most)}


def estimated_bandwidth(histogram: Histogram, share: float = 0.3) -> float:
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


def modes(histogram: Histogram, bandwidth: float, most: int) -> NDArray[np.float64]:
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
    values: NDArray[np.float64], mean: NDArray[np.float64], bandwidth: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where the values within the bandwidth of each mean begin and end."""
    first = np.searchsorted(values, mean - bandwidth, "left")
    last = np.searchsorted(values, mean + bandwidth, "right")
    # Rounding must not leave a mean without the value that it stands on.
    return first, np.maximum(last, first + 1)
