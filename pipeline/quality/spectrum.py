"""The power spectrum of a plane, from a few blocks at absolute places.

A picture that is out of focus lacks fine detail: the logarithm of its power falls faster with that
of the frequency. The slope is that of CellProfiler's MeasureImageQuality, but for two things: the
spectrum is the sum over blocks under a Hann window, not that of the whole image, which no tile
holds, and a block's frequencies do not depend on the size of the image.

References
----------
Field, Brady, Visual sensitivity, blur and the sources of variability in the amplitude spectra of
natural scenes, 1997, doi:10.1016/S0042-6989(97)00181-8
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from pipeline.box import Box

#: Sides of a block in px: the largest power of two that fits into the plane; none below the first.
SMALLEST_BLOCK, LARGEST_BLOCK = 64, 256
#: Blocks along an axis that are looked at; they are spread evenly.
BLOCKS = 6
#: Radii 2 up to this: coarser is the illumination, finer is noise.
RADII = LARGEST_BLOCK // 8


def block_side(shape: tuple[int, int]) -> int:
    """Side of the blocks of a plane (Y, X); 0 where it is too small."""
    side = 1 << (min(*shape, LARGEST_BLOCK).bit_length() - 1)
    return side if side >= SMALLEST_BLOCK else 0


def blocks_within(shape: tuple[int, int], box: Box) -> Iterator[Box]:
    """The blocks of a plane (Y, X) that begin in a box, which must hold them whole."""
    side = block_side(shape)
    if not side:
        return
    starts = []
    for axis, n in enumerate(shape):
        count = n // side
        picked = min(count, BLOCKS)
        places = (i * count // picked * side for i in range(picked))
        starts.append([p for p in places if box.start[axis] <= p < box.stop[axis]])
    for y in starts[0]:
        for x in starts[1]:
            yield Box((y, x), (y + side, x + side))


def power_of(block: NDArray[np.generic]) -> NDArray[np.float64]:
    """Power of a block (S, S) at radii 0..`RADII` - 1, summed over directions; 0 beyond S / 8.

    A block with a pixel that is not finite has none.
    """
    side = len(block)
    pixels = block.astype(np.float64)
    power = np.zeros(RADII)
    if not np.isfinite(pixels).all():
        return power
    window, radii, weights = _geometry(side)
    with np.errstate(over="ignore", invalid="ignore"):
        found = np.abs(fft.rfft2((pixels - pixels.mean()) * window)) ** 2
        power[: side // 8] = np.bincount(radii, (found * weights).ravel())[: side // 8]
    return power


@functools.lru_cache(maxsize=3)
def _geometry(
    side: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Hann window, radius of every frequency of the half plane, and how often it counts."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(side) + 0.5) / side)
    rows, columns = np.fft.fftfreq(side, 1 / side), np.arange(side // 2 + 1)
    radii = np.floor(np.hypot(rows[:, None], columns)).astype(np.int64).ravel()
    weights = np.full((1, side // 2 + 1), 2.0)
    weights[0, [0, -1]] = 1.0
    return np.outer(hann, hann), radii, weights


def slope(power: NDArray[np.float64], side: int) -> float:
    """Least-squares slope of log(power) over log(radius); NaN where there is no power."""
    radii = np.arange(2, side // 8)
    found = power[2 : side // 8]
    if len(radii) < 2 or not (np.isfinite(found) & (found > 0)).all():
        return math.nan
    x, y = np.log(radii), np.log(found)
    x -= x.mean()
    return float((x * (y - y.mean())).sum() / (x * x).sum())
