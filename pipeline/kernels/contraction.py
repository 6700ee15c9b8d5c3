"""Felzenszwalb's merging of one window, as far as it can be decided there.

See `pipeline.contraction` for why what is merged here is merged in the whole frame too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.kernels.neighbours import neighbour_steps

Ints: TypeAlias = NDArray[np.int32]
Longs: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float32]
Flags: TypeAlias = NDArray[np.bool_]

#: A pixel and the direction of its edge share a number of so many bits.
CODE_BITS = 32


@dataclass(frozen=True, slots=True)
class Contracted:
    """Components of a core, and the edges that are left between them, in ascending order.

    Parameters
    ----------
    labels : ndarray of shape (\\*core), uint32
        1..n by the first pixel in raster order; 0 where there is no value.
    first : ndarray of shape (n,), int64
        The first pixel of each, its raster index in the window.
    size : ndarray of shape (n,), int32
    inner : ndarray of shape (n,), float32
        The largest weight that was merged inside.
    pixel, step : ndarray of shape (m,), int64
        The first pixel of an edge, its raster index in the window, and the number of its direction.
    weight : ndarray of shape (m,), float32
    ends : ndarray of shape (m, 2), int64
        Labels of the edge's ends; 0 is outside the core.
    open : ndarray of shape (m,), bool
        Whether the edge may still merge; others were rejected for good.
    """

    labels: NDArray[np.uint32]
    first: Longs
    size: Ints
    inner: Floats
    pixel: Longs
    step: Longs
    weight: Floats
    ends: Longs
    open: Flags


def contract(
    colors: NDArray[Any],
    valid: Flags | None,
    core: tuple[slice, ...],
    scale: float,
    min_size_px: int,
    connectivity: int,
) -> Contracted:
    """Merge what can be decided within a window.

    Parameters
    ----------
    colors : ndarray of shape (C, Y, X) or (C, Z, Y, X)
        Of the core and, where the frame goes on, of the ring of 1 px around it.
    valid : ndarray of shape (Y, X) or (Z, Y, X), bool, or None
        Where there is a value; None: everywhere.
    core : tuple of slice
        The core, in `colors`.
    scale : float
        Larger values prefer larger components.
    min_size_px : int
        Rejected edges between components that both have this size are not returned.
    connectivity : int
        4 or 8 in 2D; 6, 18 or 26 in 3D.

    References
    ----------
    Felzenszwalb, Huttenlocher, Efficient graph-based image segmentation, 2004,
    doi:10.1023/B:VISI.0000022288.19776.77
    """
    ndim = len(core)
    shape = (1,) * (3 - ndim) + colors.shape[1:]
    steps = neighbour_steps(ndim, connectivity)[connectivity // 2 :]
    if int(np.prod(shape)) * len(steps) >= 1 << CODE_BITS:
        raise ValueError(f"the window of {shape} px is too large for edges of {CODE_BITS} bits")
    volumes = np.require(colors, np.float64, ["C", "W"]).reshape(len(colors), *shape)
    given = np.ones(shape, np.bool_) if valid is None else valid.reshape(shape)
    inside = np.zeros(shape, np.bool_)
    box = (slice(0, 1),) * (3 - ndim) + core
    inside[box] = given[box]
    edges = _edges(volumes, np.ascontiguousarray(given), inside, steps)
    edges.sort()
    strides = np.array([shape[1] * shape[2], shape[2], 1], np.int64)
    reach = steps @ strides
    parent = np.where(inside.reshape(-1), np.arange(inside.size, dtype=np.int32), np.int32(-1))
    size = np.ones(inside.size, np.int32)
    inner = np.zeros(inside.size, np.float32)
    undecided = np.empty(len(edges), np.bool_)
    count = _merge(edges, reach, scale, parent, size, inner, undecided)
    numbers = np.zeros(inside.size, np.uint32)
    roots, first = _number(parent, numbers)
    ends, kept = _ends(edges[:count], undecided[:count], reach, numbers, size[roots], min_size_px)
    chosen = edges[:count][kept]
    code = (chosen & np.uint64((1 << CODE_BITS) - 1)).astype(np.int64)
    return Contracted(
        np.ascontiguousarray(numbers.reshape(shape)[box]).reshape(inside[box].shape[3 - ndim :]),
        first,
        size[roots],
        inner[roots],
        code // len(steps),
        code % len(steps),
        (chosen >> np.uint64(CODE_BITS)).astype(np.uint32).view(np.float32),
        ends,
        undecided[:count][kept],
    )


def _edges(
    colors: NDArray[np.float64], valid: Flags, inside: Flags, steps: Longs
) -> NDArray[np.uint64]:
    """Edges of a window as (bits of the weight, pixel, step), which sort by weight and place."""
    edges = np.empty(valid.size * len(steps), np.uint64)
    return edges[: _weigh(colors, valid, inside, steps, edges)]


@njit(cache=True, nogil=True)
def _weigh(
    colors: NDArray[np.float64],
    valid: Flags,
    inside: Flags,
    steps: Longs,
    edges: NDArray[np.uint64],
) -> int:
    channels, depth, height, width = colors.shape
    weight = np.empty(1, np.float32)
    bits = weight.view(np.uint32)
    count = 0
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                if not valid[z, y, x]:
                    continue
                for s in range(len(steps)):
                    k, j, h = z + steps[s, 0], y + steps[s, 1], x + steps[s, 2]
                    if not (0 <= k < depth and 0 <= j < height and 0 <= h < width):
                        continue
                    if not valid[k, j, h] or not (inside[z, y, x] or inside[k, j, h]):
                        continue
                    total = 0.0
                    for c in range(channels):
                        apart = colors[c, z, y, x] - colors[c, k, j, h]
                        total += apart * apart
                    # Colours that overflow are as far apart as can be.
                    weight[0] = np.sqrt(total) if total < np.inf else np.inf
                    place = (np.int64(z) * height + y) * width + x
                    code = np.uint64(place * len(steps) + s)
                    edges[count] = (np.uint64(bits[0]) << np.uint64(32)) | code
                    count += 1
    return count


@njit(cache=True, nogil=True, inline="always")
def _root(parent: Ints, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def _merge(
    edges: NDArray[np.uint64],
    reach: Longs,
    scale: float,
    parent: Ints,
    size: Ints,
    inner: Floats,
    undecided: Flags,
) -> int:
    """Go through sorted edges once; those that are left move to the front, and are counted.

    `frozen` is the weight from which on a component is not known any more: what it was then counts
    for edges of the same weight still, see `pipeline.contraction`.
    """
    weight = np.empty(1, np.float32)
    bits = weight.view(np.uint32)
    frozen = np.full(len(parent), np.inf, np.float32)
    steps = np.uint64(len(reach))
    count = 0
    for e in range(len(edges)):
        bits[0] = np.uint32(edges[e] >> np.uint64(32))
        w = weight[0]
        code = edges[e] & np.uint64(0xFFFFFFFF)
        p = np.int64(code // steps)
        q = p + reach[np.int64(code % steps)]
        a = _root(parent, p) if parent[p] >= 0 else -1
        b = _root(parent, q) if parent[q] >= 0 else -1
        if a == b:
            continue
        known_a, able_a = a >= 0 and frozen[a] >= w, a < 0 or w <= inner[a] + scale / size[a]
        known_b, able_b = b >= 0 and frozen[b] >= w, b < 0 or w <= inner[b] + scale / size[b]
        if known_a and known_b and able_a and able_b:
            if size[a] < size[b]:
                a, b = b, a
            parent[b] = a
            size[a] += size[b]
            inner[a] = w
            frozen[a] = min(frozen[a], frozen[b])
            continue
        rejected = (known_a and not able_a) or (known_b and not able_b)
        if not rejected:
            if a >= 0:
                frozen[a] = min(frozen[a], w)
            if b >= 0:
                frozen[b] = min(frozen[b], w)
        edges[count] = edges[e]
        undecided[count] = not rejected
        count += 1
    return count


@njit(cache=True, nogil=True)
def _number(parent: Ints, numbers: NDArray[np.uint32]) -> tuple[Longs, Longs]:
    """Number components by their first pixel; returns the root and the first pixel of each."""
    total = 0
    for i in range(len(parent)):
        total += parent[i] == i
    roots, first = np.empty(total, np.int64), np.empty(total, np.int64)
    count = 0
    for i in range(len(parent)):
        if parent[i] < 0:
            continue
        root = _root(parent, i)
        if numbers[root] == 0:
            roots[count], first[count] = root, i
            count += 1
            numbers[root] = count
        numbers[i] = numbers[root]
    return roots, first


def _ends(
    edges: NDArray[np.uint64],
    undecided: Flags,
    reach: Longs,
    numbers: NDArray[np.uint32],
    size: Ints,
    min_size_px: int,
) -> tuple[Longs, Longs]:
    """Labels of the ends of the edges that matter, and which edges these are.

    Of several edges between two components only the first one matters; of those that leave the
    core all do, since it is not known here which component they lead to.
    """
    ends = np.empty((len(edges), 2), np.int64)
    kept = np.empty(len(edges), np.int64)
    count = _find_ends(edges, undecided, reach, numbers, size, min_size_px, ends, kept)
    ends, kept = ends[:count], kept[:count]
    low, high = ends.min(axis=1), ends.max(axis=1)
    # An edge that leaves the core is like no other.
    code = np.where(low > 0, low << 32 | high, -1 - np.arange(count))
    first = np.sort(np.unique(code, return_index=True)[1])
    return ends[first], kept[first]


@njit(cache=True, nogil=True)
def _find_ends(
    edges: NDArray[np.uint64],
    undecided: Flags,
    reach: Longs,
    numbers: NDArray[np.uint32],
    size: Ints,
    min_size_px: int,
    ends: Longs,
    kept: Longs,
) -> int:
    steps = np.uint64(len(reach))
    count = 0
    for e in range(len(edges)):
        code = edges[e] & np.uint64(0xFFFFFFFF)
        p = np.int64(code // steps)
        a = np.int64(numbers[p])
        b = np.int64(numbers[p + reach[np.int64(code % steps)]])
        if a == b:
            continue
        large = a > 0 and b > 0 and min(size[a - 1], size[b - 1]) >= min_size_px
        if large and not undecided[e]:
            continue
        ends[count, 0], ends[count, 1] = a, b
        kept[count] = e
        count += 1
    return count


@njit(cache=True, nogil=True)
def merge_regions(
    weight: Floats,
    ends: Ints,
    undecided: Flags,
    scale: float,
    min_size_px: int,
    size: Ints,
    inner: Floats,
    parent: Ints,
) -> None:
    """Merge components of a whole frame: first by the criterion, then those that are too small.

    Parameters
    ----------
    weight : ndarray of shape (m,), float32
        Of the edges, in the order in which they are tried.
    ends : ndarray of shape (m, 2), int32
    undecided : ndarray of shape (m,), bool
        Edges that the criterion is to be tried on.
    scale, min_size_px
        As in `contract`.
    size, inner, parent : ndarray of shape (n,)
        Of the components; overwritten. Afterwards `parent` is the root of every component.
    """
    for e in range(len(weight)):
        if not undecided[e]:
            continue
        a, b, w = _root(parent, ends[e, 0]), _root(parent, ends[e, 1]), weight[e]
        if a == b or w > inner[a] + scale / size[a] or w > inner[b] + scale / size[b]:
            continue
        if size[a] < size[b]:
            a, b = b, a
        parent[b] = a
        size[a] += size[b]
        inner[a] = w
    for e in range(len(weight)):
        a, b = _root(parent, ends[e, 0]), _root(parent, ends[e, 1])
        if a == b or (size[a] >= min_size_px and size[b] >= min_size_px):
            continue
        if size[a] < size[b]:
            a, b = b, a
        parent[b] = a
        size[a] += size[b]
    for i in range(len(parent)):
        parent[i] = _root(parent, i)
