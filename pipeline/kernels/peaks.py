"""Local maxima inside regions, and their spacing.

A candidate is a pixel that no pixel of its own region overtops inside a box around it. Of the
candidates of a region the highest is kept, then the next one that is far enough from those kept,
and so on. Both steps see one region at a time and break ties by raster index, so the peaks of a
region are the same in every window that holds it whole; the second step also runs on a list that
was gathered from many tiles.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline.kernels.ordering import ordered_int32

Ints: TypeAlias = npt.NDArray[np.int32]
Longs: TypeAlias = npt.NDArray[np.int64]
Heights: TypeAlias = npt.NDArray[np.int32 | np.float32]
#: A distance in px, the same along every axis or one an axis.
Distance: TypeAlias = int | tuple[int, ...]

LOWEST = np.int32(np.iinfo(np.int32).min)
FEW = 16  # points of a region; up to here comparing all pairs is faster than hashing
SWEEP_COST = 8  # a pixel of a running maximum costs about so many tests of a single box


def find_peaks(height: Heights, region: Ints, min_distance_px: Distance) -> Longs:
    """Raster indices of the peaks of every region, ascending.

    Parameters
    ----------
    height : ndarray of shape (Y, X) or (Z, Y, X), int32 or float32
        Without NaN.
    region : ndarray of the same shape, int32
        Region numbers; 0 is outside.
    min_distance_px : int or tuple of int
        Chebyshev distance in px that two peaks of one region exceed; of several numbers, one an
        axis, along one of the axes.

    Returns
    -------
    ndarray of shape (N,), int64
        At least one for every region: its highest pixel, the first one of equal height.

    See Also
    --------
    candidate_peaks, space_peaks : the two steps, for lists gathered from many tiles.
    """
    found = candidate_peaks(height, region, min_distance_px)
    coords = np.stack(np.unravel_index(found, height.shape), axis=1).astype(np.int64)
    own = region.reshape(-1)[found].astype(np.int64)
    keep = space_peaks(coords, height.reshape(-1)[found], own, found, min_distance_px)
    return found[keep]


def candidate_peaks(height: Heights, region: Ints, min_distance_px: Distance) -> Longs:
    """Pixels that are the highest of their own region inside the box around them.

    Parameters
    ----------
    height, region, min_distance_px
        As for `find_peaks`. The box has the Chebyshev radius ``max(1, min_distance_px)``.

    Returns
    -------
    ndarray of shape (N,), int64
        Raster indices, ascending. All pixels of a flat top are candidates.

    Raises
    ------
    ValueError
        The shapes or the dtype do not fit, the distance is negative, or a height is NaN.
    """
    _check(height, region, min_distance_px)
    shape = (1,) * (3 - height.ndim) + height.shape
    tops = ordered_int32(height).reshape(shape)
    numbers = np.require(region, np.int32, ["C", "W"]).reshape(shape)
    distances = _three(min_distance_px, height.ndim)
    reach = (
        max(1, distances[0]) if height.ndim == 3 else 0,
        max(1, distances[1]),
        max(1, distances[2]),
    )
    # The box of radius 1 is the sieve: few pixels pass it and need the whole box.
    found: Longs = _highest_nearby(tops, numbers)
    if max(reach) > 1 and found.size > 0:
        order = np.argsort(numbers.reshape(-1)[found], kind="stable")
        keep = _highest_of_box(tops, numbers, found[order], reach)
        found = np.sort(found[order][keep])
    return found


def space_peaks(
    coords: Longs,
    height: npt.NDArray[np.number],
    region_id: Longs,
    order_key: Longs,
    min_distance_px: Distance,
) -> npt.NDArray[np.bool_]:
    """Choose from each region the highest peaks that keep their distance.

    Parameters
    ----------
    coords : ndarray of shape (N, ndim), int64
        Pixel coordinates, in two or three dimensions, of any origin.
    height : ndarray of shape (N,), integer or floating
    region_id : ndarray of shape (N,), int64
        Peaks of different regions do not see each other.
    order_key : ndarray of shape (N,), int64
        Order of peaks of equal height: the raster index in the whole image.
    min_distance_px : int or tuple of int
        As for `find_peaks`: what two kept peaks of one region exceed.

    Returns
    -------
    ndarray of shape (N,), bool
        In the order of height descending, then `order_key` ascending, a peak is kept unless one
        of its region that was kept before lies within the distance.

    Raises
    ------
    ValueError
        The lists differ in length, or the distance is negative.
    """
    n = coords.shape[0]
    if coords.ndim != 2 or coords.shape[1] not in (2, 3):
        raise ValueError(f"coords has shape {coords.shape}; (N, 2) or (N, 3) is needed")
    if not (n,) == height.shape == region_id.shape == order_key.shape:
        raise ValueError("coords, height, region_id and order_key must be lists of one length")
    distances = _three(min_distance_px, coords.shape[1])
    wide = np.int64 if np.issubdtype(height.dtype, np.integer) else np.float64
    padded = np.zeros((n, 3), np.int64)
    padded[:, 3 - coords.shape[1] :] = coords
    cells = np.empty((n, 4), np.int64)
    cells[:, 0] = region_id
    cells[:, 1:] = padded // (np.array(distances) + 1)
    order = np.lexsort((order_key, -height.astype(wide), region_id))
    keep: npt.NDArray[np.bool_]
    keep = _space_points(padded, cells, order, distances, coords.shape[1] - 2)
    return keep


def _three(distance_px: Distance, ndim: int) -> tuple[int, int, int]:
    """Distances along z, y and x."""
    given = distance_px if isinstance(distance_px, tuple) else (distance_px,) * ndim
    if len(given) != ndim or min(given) < 0:
        raise ValueError(
            f"min_distance_px is {distance_px}; it must be 0 or more, along {ndim} axes"
        )
    # A plane is a volume of one: along z nothing is apart.
    z, y, x = (*(0,) * (3 - ndim), *given)
    return z, y, x


def _check(height: Heights, region: Ints, min_distance_px: Distance) -> None:
    if height.ndim not in (2, 3) or height.shape != region.shape:
        raise ValueError(f"height {height.shape}, region {region.shape}: not one 2D/3D shape")
    _three(min_distance_px, height.ndim)


@njit(cache=True, nogil=True)
def _highest_nearby(height: Ints, region: Ints) -> Longs:
    """Pixels of (Z, Y, X) that no neighbour of their region overtops, in raster order."""
    planes, rows, columns = height.shape
    found = np.empty(max(height.size // 64, columns), np.int64)
    count = 0
    for z in range(planes):
        for y in range(rows):
            if found.size < count + columns:
                more = np.empty(2 * found.size, np.int64)
                more[:count] = found[:count]
                found = more
            for x in range(columns):
                if region[z, y, x] > 0 and _is_highest(height, region, z, y, x, (1, 1, 1)):
                    found[count] = (z * rows + y) * columns + x
                    count += 1
    return found[:count].copy()


@njit(cache=True, nogil=True)
def _is_highest(
    height: Ints, region: Ints, z: int, y: int, x: int, reach: tuple[int, int, int]
) -> bool:
    """Whether no pixel of the same region in the box around (z, y, x) is higher."""
    planes, rows, columns = height.shape
    own, top = region[z, y, x], height[z, y, x]
    for c in range(max(z - reach[0], 0), min(z + reach[0] + 1, planes)):
        for b in range(max(y - reach[1], 0), min(y + reach[1] + 1, rows)):
            for a in range(max(x - reach[2], 0), min(x + reach[2] + 1, columns)):
                if height[c, b, a] > top and region[c, b, a] == own:
                    return False
    return True


@njit(cache=True, nogil=True)
def _highest_of_box(
    height: Ints, region: Ints, found: Longs, reach: tuple[int, int, int]
) -> npt.NDArray[np.bool_]:
    """Which of `found`, grouped by region, are the highest of their region in their whole box.

    Each region takes the cheaper of two roads: one test a pixel, or, where a flat top left many
    pixels to test, a running maximum over the box that holds them all.
    """
    keep = np.empty(found.size, np.bool_)
    _, rows, columns = height.shape
    flat_region = region.reshape(-1)
    box_size = (2 * reach[0] + 1) * (2 * reach[1] + 1) * (2 * reach[2] + 1)
    first = 0
    while first < found.size:
        own = flat_region[found[first]]
        box = (height.size, height.size, height.size, 0, 0, 0)
        stop = first
        while stop < found.size and flat_region[found[stop]] == own:
            row, x = found[stop] // columns, found[stop] % columns
            z, y = row // rows, row % rows
            box = (
                min(box[0], z),
                min(box[1], y),
                min(box[2], x),
                max(box[3], z),
                max(box[4], y),
                max(box[5], x),
            )
            stop += 1
        z0, y0, x0 = box[0], box[1], box[2]
        sides = (
            box[3] - z0 + 2 * reach[0] + 1,
            box[4] - y0 + 2 * reach[1] + 1,
            box[5] - x0 + 2 * reach[2] + 1,
        )
        sweep = (
            stop - first > 1
            and (stop - first) * box_size > SWEEP_COST * sides[0] * sides[1] * sides[2]
        )
        if sweep:
            origin = (z0 - reach[0], y0 - reach[1], x0 - reach[2])
            running = _running_maximum(height, region, own, origin, sides, reach)
        for i in range(first, stop):
            row, x = found[i] // columns, found[i] % columns
            z, y = row // rows, row % rows
            if stop - first == 1:
                keep[i] = True  # the highest pixel of a region always passes the sieve
            elif sweep:
                top = running[((z - z0) * sides[1] + y - y0) * sides[2] + x - x0]
                keep[i] = top == height[z, y, x]
            else:
                keep[i] = _is_highest(height, region, z, y, x, reach)
        first = stop
    return keep


@njit(cache=True, nogil=True)
def _running_maximum(
    height: Ints,
    region: Ints,
    own: int,
    origin: tuple[int, int, int],
    sides: tuple[int, int, int],
    reach: tuple[int, int, int],
) -> Ints:
    """Maximum of region `own` over the box of ``2 * reach + 1`` px an axis that starts at each
    pixel.

    The result covers the box at `origin` with `sides`, flattened. Each pass doubles the length
    of the maximum along one axis. Near the far ends it runs on into the next row: those values
    are wrong and are not used, because every pixel in question has its whole box inside.
    """
    running = np.full(sides[0] * sides[1] * sides[2], LOWEST, np.int32)
    for z in range(max(origin[0], 0), min(origin[0] + sides[0], height.shape[0])):
        for y in range(max(origin[1], 0), min(origin[1] + sides[1], height.shape[1])):
            row = ((z - origin[0]) * sides[1] + y - origin[1]) * sides[2] - origin[2]
            for x in range(max(origin[2], 0), min(origin[2] + sides[2], height.shape[2])):
                if region[z, y, x] == own:
                    running[row + x] = height[z, y, x]
    _lengthen(running, 1, 2 * reach[2] + 1)
    _lengthen(running, sides[2], 2 * reach[1] + 1)
    _lengthen(running, sides[1] * sides[2], 2 * reach[0] + 1)
    return running


@njit(cache=True, nogil=True)
def _lengthen(running: Ints, stride: int, length: int) -> None:
    """Make each value the maximum of the `length` values that start there, `stride` apart."""
    done = 1
    while done < length:
        step = min(done, length - done)
        for i in range(running.size - step * stride):
            running[i] = max(running[i], running[i + step * stride])
        done += step


@njit(cache=True, nogil=True)
def _space_points(
    points: Longs, cells: Longs, order: Longs, distance: tuple[int, int, int], reach_z: int
) -> npt.NDArray[np.bool_]:
    """Keep points, taken in `order`, of which no kept one of their region is within `distance`.

    `points` is (N, 3), `cells` is (N, 4): region and cell; `order` goes region by region. A few
    points are compared directly. Of many, those kept are hashed by cell: two points of a cell with
    sides ``distance + 1`` are never both kept, so that a cell holds one at most.
    """
    size = 1
    while size < 2 * order.size:
        size *= 2
    slots = np.full(size, -1, np.int64)
    keep = np.zeros(order.size, np.bool_)
    first = 0
    while first < order.size:
        stop = first + 1
        while stop < order.size and cells[order[stop], 0] == cells[order[first], 0]:
            stop += 1
        for n in range(first, stop):
            i = order[n]
            if stop - first <= FEW:
                keep[i] = not _is_crowded_by(points, keep, order[first:n], i, distance)
                continue
            own = _slot(cells, slots, i, 0, 0, 0)
            if slots[own] < 0 and not _is_crowded(points, cells, slots, i, distance, reach_z):
                keep[i] = True
                slots[own] = i
        first = stop
    return keep


@njit(cache=True, nogil=True)
def _is_crowded_by(
    points: Longs,
    keep: npt.NDArray[np.bool_],
    others: Longs,
    i: int,
    distance: tuple[int, int, int],
) -> bool:
    """Whether one of `others` that is kept is within `distance` of point i."""
    for j in others:  # noqa: SIM110 - numba compiles no generator expressions in any()
        if keep[j] and _is_near(points, i, j, distance):
            return True
    return False


@njit(cache=True, nogil=True)
def _is_near(points: Longs, i: int, j: int, distance: tuple[int, int, int]) -> bool:
    """Whether the Chebyshev distance of two points is at most `distance`."""
    return bool(
        abs(points[i, 0] - points[j, 0]) <= distance[0]
        and abs(points[i, 1] - points[j, 1]) <= distance[1]
        and abs(points[i, 2] - points[j, 2]) <= distance[2]
    )


@njit(cache=True, nogil=True)
def _is_crowded(
    points: Longs,
    cells: Longs,
    slots: Longs,
    i: int,
    distance: tuple[int, int, int],
    reach_z: int,
) -> bool:
    """Whether a kept point in the cells around point i is within `distance`."""
    for dz in range(-reach_z, reach_z + 1):
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                j = slots[_slot(cells, slots, i, dz, dy, dx)]
                if j >= 0 and _is_near(points, i, j, distance):
                    return True
    return False


@njit(cache=True, nogil=True)
def _slot(cells: Longs, slots: Longs, i: int, dz: int, dy: int, dx: int) -> np.int64:
    """Slot of the cell (dz, dy, dx) from that of point i, same region; the slot may be empty."""
    region, z, y, x = cells[i, 0], cells[i, 1] + dz, cells[i, 2] + dy, cells[i, 3] + dx
    mixed = np.uint64(0)
    for part in (region, z, y, x):
        # One round of splitmix64 a number: neighbouring cells must not share a neighbourhood.
        mixed = (mixed ^ np.uint64(part)) * np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(31)
    slot = np.int64(mixed & np.uint64(slots.size - 1))
    while slots[slot] >= 0:
        j = slots[slot]
        if cells[j, 0] == region and cells[j, 1] == z and cells[j, 2] == y and cells[j, 3] == x:
            break
        slot = (slot + 1) & (slots.size - 1)
    return slot
