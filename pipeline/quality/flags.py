"""What is remarkable about a plane, beside the others of its dataset; nothing is refused for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

#: Share of pixels at the largest value, if that is full scale, above which a plane is saturated.
SATURATED = 0.01
#: Contrast (99.9 % or 1 % from the median) below this many noise levels is none: noise alone
#: reaches 3.1.
EMPTY_NOISE = 4.0
#: A plane is out of focus if its power falls this much faster than in the median plane of its
#: channel (a blur of 2 px on nuclei: 0.8), and by this many robust deviations of the channel.
BLURRED_SLOPE, BLURRED_DEVIATIONS = 0.75, 3.0
#: Planes of a channel without which there is no median to speak of.
ENOUGH = 5

Columns = Mapping[str, NDArray[Any]]


def flag_planes(table: pa.Table) -> pa.Table:
    """Add the column `flags`: words, separated by commas; empty where nothing is remarkable.

    Parameters
    ----------
    table : pyarrow.Table
        Rows of all images, with the columns of `pipeline.quality.table.SCHEMA`.
    """
    columns: dict[str, NDArray[Any]] = {
        name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names
    }
    empty = is_empty(columns)
    found = {
        "empty": empty,
        "out of focus": is_blurred(columns, ~empty),
        "saturated": is_saturated(columns),
    }
    words = [
        ", ".join(name for name, flags in found.items() if flags[i]) for i in range(len(table))
    ]
    return table.append_column("flags", pa.array(words, pa.string()))


def is_empty(columns: Columns) -> NDArray[np.bool_]:
    """Whether a plane shows nothing but its background."""
    contrast = columns["p999"] - columns["p50"]
    nothing = (columns["finite_px"] == 0) | (columns["min"] == columns["max"])
    dark = columns["p50"] - columns["p01"]  # objects may be darker than their background
    faint = np.maximum(contrast, dark) < EMPTY_NOISE * columns["noise"]
    return np.asarray(nothing | faint)


def is_saturated(columns: Columns) -> NDArray[np.bool_]:
    """Whether many pixels have the largest value, and that is 255, 1023, 4095, ..., or 1.

    A plane that is 1 throughout may be a mask; one that is 255 throughout saw too much light.
    """
    high = columns["max"]
    full = np.array([_is_full_scale(float(value)) for value in high], np.bool_)
    return np.asarray(
        full & (columns["at_max"] > SATURATED) & ((columns["min"] < high) | (high > 1))
    )


def _is_full_scale(value: float) -> bool:
    if value == 1.0:
        return True
    if not math.isfinite(value) or value < 127 or value != int(value):
        return False
    return int(value) & (int(value) + 1) == 0


def is_blurred(columns: Columns, counts: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether a plane is out of focus, as far as those of its channel that count tell."""
    found = np.zeros(len(counts), np.bool_)
    for channel in np.unique(columns["channel"].astype(str)):
        here = counts & (columns["channel"].astype(str) == channel)
        slope = columns["power_slope"]
        here &= np.isfinite(slope)
        if here.sum() < ENOUGH:
            continue
        middle = np.median(slope[here])
        deviation = 1.4826 * np.median(np.abs(slope[here] - middle))
        limit = max(BLURRED_SLOPE, BLURRED_DEVIATIONS * float(deviation))
        found |= here & (slope < middle - limit)
    return found
