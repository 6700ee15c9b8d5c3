"""The plane of a stack that is in focus: the one whose Laplacian varies most.

For every time, of the planes that are seen, the one with the largest variance of the Laplacian of
one channel over the whole plane; of equal ones the first. The Laplacian of a pixel is the sum of
its four neighbours less four times itself; outside the plane the nearest pixel is repeated. Sums
are over blocks of the plane that do not depend on tiles; for 8 and 16 bits they are whole numbers.

References
----------
Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, 2000,
doi:10.1109/ICPR.2000.903548
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction

import numpy as np

from pipeline.box import Box
from pipeline.errors import MethodError
from pipeline.sources.base import Source, SourceSpec, open_source

#: Side of the blocks that are summed.
BLOCK_PX = 2048


def in_focus(spec: SourceSpec) -> SourceSpec:
    """The spec with the planes in focus, where that is what is seen; reads the whole image once.

    Raises
    ------
    ImageError
        If it cannot be read, or has no such channel.
    """
    seen = spec.seen
    if seen.project != "best_focus" or seen.planes:
        return spec
    with open_source(replace(spec, seen=replace(seen, project=None))) as source:
        channel = _channel(source, spec)
        numbers = seen.z or tuple(range(source.info.shape[2]))
        found = []
        for t in range(source.info.shape[0]):
            sharp = [sharpness(source, t, channel, z) for z in range(len(numbers))]
            found.append(numbers[sharp.index(max(sharp))])
    return replace(spec, seen=replace(seen, planes=tuple(found)))


def sharpness(source: Source, t: int, channel: int, z: int) -> Fraction | float:
    """Variance of the Laplacian of a plane."""
    height, width = source.info.shape[-2:]
    exact = source.info.dtype in ("uint8", "int8", "uint16", "int16", "bool")
    total: int | float = 0
    squares: int | float = 0
    starts = itertools.product(range(0, height, BLOCK_PX), range(0, width, BLOCK_PX))
    for y, x in starts:
        core = Box((y, x), (min(y + BLOCK_PX, height), min(x + BLOCK_PX, width)))
        found = _laplacian(source, t, channel, z, core, np.int64 if exact else np.float64)
        total += found.sum().item()
        squares += (found * found).sum().item()
    n = height * width
    if isinstance(total, int) and isinstance(squares, int):
        return Fraction(n * squares - total * total, n * n)
    return float(squares / n - (total / n) ** 2)


def _laplacian(
    source: Source, t: int, channel: int, z: int, core: Box, dtype: type[np.generic]
) -> np.ndarray:
    """Of a block of a plane; pixels that are not finite count as 0."""
    window = core.grow(1, Box.whole(source.info.shape[-2:]))
    box = Box((z, *window.start), (z + 1, *window.stop))
    pixels = source.read(t, [channel], box)[0, 0]
    if pixels.dtype.kind == "f":
        pixels = np.nan_to_num(pixels, nan=0.0, posinf=0.0, neginf=0.0)
    missing = [
        (1 - (core.start[axis] - window.start[axis]), 1 - (window.stop[axis] - core.stop[axis]))
        for axis in (0, 1)
    ]
    p = np.pad(pixels.astype(dtype), missing, mode="edge")
    found: np.ndarray = p[:-2, 1:-1] + p[2:, 1:-1] + p[1:-1, :-2] + p[1:-1, 2:] - 4 * p[1:-1, 1:-1]
    return found


def _channel(source: Source, spec: SourceSpec) -> int:
    wanted, names = spec.seen.focus_channel, source.info.channels
    if isinstance(wanted, int) and 0 <= wanted < len(names):
        return wanted
    if wanted in names:
        return names.index(str(wanted))
    raise MethodError(
        spec.path,
        f"there is no channel {wanted!r} to find the plane in focus by; it has {', '.join(names)}",
        "Name one of them first in the recipe's source.channels.",
    )
