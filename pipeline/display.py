"""What viewers show of an image's grey values, taken from its coarsest level.

Many show what the metadata say and nothing else: with the range of the pixel type, an image of a
camera of 12 bits is black.
"""

from __future__ import annotations

import numpy as np

from pipeline.pyramid import Pixels, Pyramid, open_level

#: Percentiles that are shown as black and as white.
SHOWN = (0.1, 99.9)


def display_windows(pyramid: Pyramid) -> list[dict[str, float]]:
    """The window of each channel: what its middle plane of the first time point holds.

    Parameters
    ----------
    pyramid : Pyramid
        Of an image whose levels are written.

    Returns
    -------
    list of dict
        "min" and "max" are the smallest and largest finite value, "start" and "end" the
        percentiles `SHOWN`; 0 and 1 where there is nothing to tell apart.
    """
    return [_window(_plane(pyramid, channel)) for channel in range(pyramid.info.shape[1])]


def _plane(pyramid: Pyramid, channel: int) -> Pixels:
    middle = {"t": 0, "c": channel, "z": pyramid.info.shape[2] // 2}
    where = tuple(middle.get(axis, slice(None)) for axis in pyramid.axes)
    return np.asarray(open_level(pyramid.path, pyramid.levels - 1)[where])


def _window(plane: Pixels) -> dict[str, float]:
    finite = plane[np.isfinite(plane)].astype(np.float64)
    if finite.size == 0 or finite.min() == finite.max():
        low = float(finite[0]) if finite.size else 0.0
        return {"min": low, "max": low + 1.0, "start": low, "end": low + 1.0}
    start, end = np.percentile(finite, SHOWN)
    if start == end:  # a few bright pixels on an even background
        start, end = finite.min(), finite.max()
    low, high = float(finite.min()), float(finite.max())
    return {"min": low, "max": high, "start": float(start), "end": float(end)}
