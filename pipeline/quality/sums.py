"""What a shard tells of the quality of its planes: small sums that add up to those of the plane.

Shards depend on the image alone, so neither the tiles nor the workers can be seen in a sum. Whole
numbers of up to 16 bits are counted each by itself and summed as whole numbers; other values are
summed in 64-bit floats, in raster order within a shard and then from shard to shard.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.box import Box
from pipeline.kernels.histogram import count_whole_numbers
from pipeline.kernels.quality import (
    DIFFERENCES,
    LATTICE_PX,
    MOMENTS,
    count_floats,
    float_cells,
    float_differences,
    float_moments,
    whole_cells,
    whole_differences,
)
from pipeline.preprocess import natural_range
from pipeline.quality.spectrum import RADII, blocks_within, power_of
from pipeline.records import Record

Plane = NDArray[np.generic]

#: A plane is cut into this many cells along each axis, whatever its size.
CELLS = 16
#: Bits of a float32 that are kept where floats are counted: sign, exponent and 9 of the mantissa.
KEY_BITS = 18


def measure_region(pixels: Plane, box: Box, frame: tuple[int, ...]) -> Record:
    """Measure the planes of a shard.

    Parameters
    ----------
    pixels : ndarray of shape (C, Y, X) or (C, Z, Y, X)
    box : Box
        Where they lie in the frame.
    frame : tuple of int
        (Y, X) or (Z, Y, X) of the frame.

    Returns
    -------
    dict of ndarray
        For P = C Z planes, channel by channel. cells, areas (P, 16, 16): sum and number of the
        finite pixels of each cell; differences (P, 4) and moments (P, 7): see
        `pipeline.kernels.quality`, moments of floats only; power (P, R): see `spectrum`; values,
        counts, and lengths (P,): what occurs and how often, one plane after the other.
    """
    planes = pixels.reshape(-1, *pixels.shape[-2:])
    place = Box(box.start[-2:], box.stop[-2:])
    found = [_measure(plane, place, (frame[-2], frame[-1])) for plane in planes]
    record = {key: np.stack([one[key] for one in found]) for key in found[0].keys() - _RAGGED}
    record |= {key: np.concatenate([one[key] for one in found]) for key in _RAGGED}
    record["lengths"] = np.array([len(one["values"]) for one in found])
    return record


_RAGGED = {"values", "counts"}


def plane_record(record: Record, number: int) -> Record:
    """The part of one plane of a shard."""
    stop = int(record["lengths"][: number + 1].sum())
    cut = slice(stop - int(record["lengths"][number]), stop)
    whole = {key: value[number] for key, value in record.items() if key not in _RAGGED}
    return whole | {key: record[key][cut] for key in _RAGGED}


def _measure(plane: Plane, box: Box, shape: tuple[int, int]) -> Record:
    bounds = natural_range(plane.dtype.name)
    kind = np.float64 if bounds is None else np.int64
    rows, ends = _cell_of_rows(box, shape), _cell_ends(box, shape)
    record: Record = {
        "cells": np.zeros((CELLS, CELLS), kind),
        "areas": np.zeros((CELLS, CELLS), np.int64),
        "differences": np.zeros(DIFFERENCES, kind),
        "power": np.zeros(RADII),
    }
    if bounds is None:
        record["moments"] = np.zeros(MOMENTS)
        float_moments(plane, record["moments"])
        float_cells(plane, rows, ends, record["cells"], record["areas"])
        float_differences(plane, LATTICE_PX, record["differences"])
        counts, first = count_keys(plane), 0
    else:
        whole_cells(plane, rows, ends, record["cells"], record["areas"])
        whole_differences(plane, LATTICE_PX, record["differences"])
        first = int(bounds[0])
        counts = count_whole_numbers(plane, first, int(bounds[1]))
    for block in blocks_within(shape, box):
        record["power"] += power_of(plane[block.within(box)])
    present = np.flatnonzero(counts)
    record["values"], record["counts"] = (
        (present + first).astype(np.int32),
        counts[present].astype(np.int64),
    )
    return record


def _cell_of_rows(box: Box, shape: tuple[int, int]) -> NDArray[np.int64]:
    return np.arange(box.start[0], box.stop[0], dtype=np.int64) * CELLS // shape[0]


def _cell_ends(box: Box, shape: tuple[int, int]) -> NDArray[np.int64]:
    """First column behind each cell, from the box's first one, clipped to the box."""
    ends = -(-np.arange(1, CELLS + 1, dtype=np.int64) * shape[1] // CELLS)
    return np.clip(ends, box.start[1], box.stop[1]) - box.start[1]


def count_keys(plane: Plane) -> NDArray[np.int64]:
    """Count the finite values of a plane by keys of `KEY_BITS` bits, which are ordered as they are.

    What is too large for a float32 counts as its largest value.
    """
    counts = np.zeros(2**KEY_BITS, np.int32)
    if plane.dtype != np.float32:
        largest = float(np.finfo(np.float32).max)
        finite = np.isfinite(plane)
        plane = np.where(finite, np.clip(plane.astype(np.float64), -largest, largest), np.nan)
    bits = np.ascontiguousarray(plane, np.float32).view(np.uint32)
    count_floats(bits, 32 - KEY_BITS, counts)
    return counts.astype(np.int64)


def key_values(keys: NDArray[np.int64]) -> NDArray[np.float64]:
    """The values in the middle of what keys stand for; 0.1 % off at most."""
    flipped = (keys.astype(np.uint32) << np.uint32(32 - KEY_BITS)) + np.uint32(2 ** (31 - KEY_BITS))
    positive = flipped >= 2**31
    bits = np.where(positive, flipped & np.uint32(2**31 - 1), ~flipped)
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)
