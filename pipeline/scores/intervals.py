"""Overall scores with intervals: the percentile bootstrap over images.

Images are drawn, not objects: objects of one image resemble each other, and to draw them one by one
would promise too much.

References
----------
Efron, Better bootstrap confidence intervals, Journal of the American Statistical Association 82
(1987), doi:10.1080/01621459.1987.10478410
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.scores.measures import Measure

Floats = NDArray[np.float64]

RESAMPLES = 2000
SEED = 0
#: Per cent of the resamples that lie below and above.
PERCENTILES = (2.5, 97.5)
#: Draws that are made at once.
DRAWS = 4_000_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A score and its 95 % interval; nan where there is none.

    Parameters
    ----------
    value, low, high : float
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Overall:
    """One measure over all images.

    Parameters
    ----------
    measure : Measure
    pooled : Estimate
        Of the sums of all images: every object (or pixel) weighs the same.
    mean : Estimate
        Mean of the scores of images: every image weighs the same.
    images : int
        How many images have a score, so that the mean is over these.
    """

    measure: Measure
    pooled: Estimate
    mean: Estimate
    images: int


def summarize(
    sums: Mapping[str, Floats],
    measures: Sequence[Measure],
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[Overall]:
    """Score all images together, and say how sure that is.

    Parameters
    ----------
    sums : dict of ndarray of shape (images,), float64
        In an order that does not change.
    measures : sequence of Measure
    resamples, seed : int
        Draws of as many images as there are, with replacement.

    Returns
    -------
    list of Overall
        Intervals of a single image are nan: nothing can be drawn.
    """
    names = list(sums)
    table = np.stack([np.asarray(sums[name], np.float64) for name in names], axis=1)
    scores = np.stack([measure.of(sums) for measure in measures], axis=1)
    known = ~np.isnan(scores)
    filled = np.where(known, scores, 0.0)
    pooled, means = [], []
    for weights in _weights(len(table), resamples, seed):
        drawn = dict(zip(names, (weights @ table).T, strict=True))
        pooled.append(np.stack([measure.of(drawn) for measure in measures], axis=1))
        counts = weights @ known.astype(np.float64)
        with np.errstate(invalid="ignore"):  # 0 of 0 images have a score in some draws
            means.append((weights @ filled) / counts)
    whole = {name: table[:, [i]].sum(axis=0) for i, name in enumerate(names)}
    limits = zip(_limits(pooled, len(measures)), _limits(means, len(measures)), strict=True)
    counted = zip(measures, filled.sum(axis=0), known.sum(axis=0).tolist(), strict=True)
    return [
        Overall(
            measure,
            Estimate(float(measure.of(whole)[0]), *of_pooled),
            Estimate(float(total / count) if count else float("nan"), *of_mean),
            count,
        )
        for (measure, total, count), (of_pooled, of_mean) in zip(counted, limits, strict=True)
    ]


def _weights(images: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often every image is drawn, of shape (draws, images), some draws at a time."""
    if images < 2:
        return
    generator = np.random.default_rng(seed)
    step = max(1, DRAWS // images)
    for first in range(0, resamples, step):
        count = min(step, resamples - first)
        drawn = generator.integers(0, images, (count, images))
        drawn += np.arange(count)[:, None] * images
        yield (
            np.bincount(drawn.reshape(-1), minlength=count * images)
            .reshape(count, images)
            .astype(np.float64)
        )


def _limits(drawn: Sequence[Floats], measures: int) -> list[tuple[float, float]]:
    if not drawn:
        return [(float("nan"), float("nan"))] * measures
    columns = np.concatenate(drawn).T
    found = []
    for column in columns:
        known = column[~np.isnan(column)]
        low, high = np.percentile(known, PERCENTILES) if len(known) else (np.nan, np.nan)
        found.append((float(low), float(high)))
    return found
