"""Polygons of one object in one plane, from its corners."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels.tracing import owners, ring_areas, trace_rings

Longs = NDArray[np.int64]
#: [x, y] of the corners; the last is the first.
Ring = list[list[int]]


def polygons(y: Longs, x: Longs, code: Longs) -> list[list[Ring]]:
    """Polygons of an object: parts connected by pixel sides, each with its holes.

    Parameters
    ----------
    y, x, code : ndarray of shape (n,), int64
        Its corners, in raster order.

    Returns
    -------
    list of list of rings
        Of each part the ring around it, then those around its holes, all along the sides of pixels.
        Rings go round so that areas in (x, y) are positive around parts and negative around holes.
    """
    corners, offsets = trace_rings(y, x, code)
    points = np.stack([y[corners], x[corners]], axis=1)
    area = ring_areas(points, offsets)
    owner = owners(points, offsets, area)
    rings = list(_rings(points, offsets))
    parts = {int(i): [rings[i]] for i in np.flatnonzero(area > 0)}
    for hole in np.flatnonzero(area < 0):
        parts[int(owner[hole])].append(rings[hole])
    return list(parts.values())


def _rings(points: Longs, offsets: Longs) -> Iterator[Ring]:
    for begin, end in itertools.pairwise(offsets):
        ring = points[begin:end, ::-1].tolist()
        yield [*ring, ring[0]]
