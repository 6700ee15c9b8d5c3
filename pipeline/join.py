"""Joining: from the pieces of tiles to whole, numbered objects.

1. Gather anchors and areas of all pieces; a piece's global number is its tile's offset + label.
2. Unite pieces that are one object: over touching faces, equal keys, links to outside pixels.
   Objects of which no piece is to be kept become background.
3. Fill holes: give to an object the regions that it encloses (`pipeline.kernels.enclosure`).
4. Drop whole objects by border and size.
5. Number what is left by the raster rank of its first pixel, or as what it was made from.

Only what is said here of a piece (24 bytes) stays in memory for all pieces at once; the sums are
read again band by band when the table is written.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.grid import Tile, TileGrid
from pipeline.joined import Joined
from pipeline.kernels.components import AXES_APART, face_connectivity
from pipeline.kernels.enclosure import enclosers
from pipeline.kernels.unionfind import DisjointSets
from pipeline.label_keys import numbers_of
from pipeline.pieces import pair_codes, split_codes
from pipeline.recipe_sections import PostprocessSection

#: Reads the pieces' record of a tile.
Pieces = Callable[[int], Mapping[str, NDArray[Any]]]
IntArray = NDArray[np.int64]


def join_pieces(
    grid: TileGrid, pieces: Pieces, post: PostprocessSection, by_key: bool = False
) -> Joined:
    """Join the pieces of all tiles of an image.

    Parameters
    ----------
    grid : TileGrid
    pieces : callable
        Record of a tile, as `describe_pieces` makes it. Called more than once a tile.
    post : PostprocessSection
    by_key : bool
        Number objects by their keys, which are `label_keys`, instead of by rank.
    """
    found = _gather(grid, pieces)
    sets = DisjointSets(len(found.anchor))
    for a, b in _unions(grid, pieces, found):
        sets.unite(a, b)
    found = _without_dropped(found, sets)
    key = _keys_of_objects(found, sets) if by_key else None
    if post.fill_holes:
        _fill_holes(grid, pieces, found, sets)
    names = sets.names()
    whole = _whole_objects(found, names)
    keep = whole.is_object & (whole.area >= post.min_size_px)
    if post.max_size_px is not None:
        keep &= whole.area <= post.max_size_px
    if post.clear_border:
        keep &= ~whole.at_border
    kept = np.flatnonzero(keep)
    ranked = kept[np.argsort(whole.anchor[kept], kind="stable")]
    number = np.arange(1, len(ranked) + 1, dtype=np.uint64)
    if key is not None:
        # An object that takes others in begins before them, so its first piece is its own.
        number = numbers_of(key[_first_pieces(found, names, whole)[ranked]])
    dtype = np.uint32 if number.max(initial=0) < 2**32 else np.uint64
    by_name: NDArray[np.unsignedinteger] = np.zeros(len(names), dtype)
    by_name[ranked] = number
    return Joined(found.offsets, by_name[names], len(ranked))


def join_classes(grid: TileGrid, count: int) -> Joined:
    """The pieces of a map of `count` classes: a class has the same number in every tile."""
    offsets = np.arange(len(grid) + 1, dtype=np.int64) * count
    return Joined(offsets, np.tile(np.arange(1, count + 1, dtype=np.uint8), len(grid)), count)


@dataclass(frozen=True, slots=True)
class _Gathered:
    """One entry a piece, in the order of tiles and labels."""

    offsets: IntArray
    anchor: IntArray
    area: IntArray
    is_object: NDArray[np.bool_]
    at_border: NDArray[np.bool_]
    keys: IntArray
    kept: NDArray[np.bool_]
    connectivity: int


def _gather(grid: TileGrid, pieces: Pieces) -> _Gathered:
    columns: dict[str, list[NDArray[Any]]] = {
        key: [] for key in ("anchor", "area", "is_object", "at_border", "keys", "kept")
    }
    offsets = np.zeros(len(grid) + 1, np.int64)
    connectivity = 0
    limit = np.array((1, *grid.shape)[-3:])
    axes = slice(3 - grid.ndim, 3)
    for number in range(len(grid)):
        record = pieces(number)
        count = len(record["area"])
        offsets[number + 1] = offsets[number] + count
        connectivity = max(connectivity, int(record["touching"]))
        columns["anchor"].append(record["anchor"])
        columns["area"].append(record["area"])
        columns["keys"].append(record["keys"])
        columns["is_object"].append(np.arange(count) < int(record["objects"]))
        kept = np.zeros(count, np.bool_)
        kept[: int(record["objects"])] = record.get("kept", True)
        columns["kept"].append(kept)
        outside = (record["start"] == 0) | (record["stop"] == limit)
        columns["at_border"].append(outside[:, axes].any(axis=1))
    joined = {key: np.concatenate(parts) for key, parts in columns.items()}
    return _Gathered(
        offsets,
        joined["anchor"].astype(np.int64),
        joined["area"].astype(np.int64),
        joined["is_object"].astype(np.bool_),
        joined["at_border"].astype(np.bool_),
        joined["keys"].astype(np.int64),
        joined["kept"].astype(np.bool_),
        connectivity,
    )


def _unions(
    grid: TileGrid, pieces: Pieces, found: _Gathered
) -> Iterator[tuple[IntArray, IntArray]]:
    """Pairs of pieces (global numbers) that are parts of one region."""
    if found.connectivity:
        for a, b in _contacts(grid, pieces, found, found.connectivity):
            objects = found.is_object[a] & found.is_object[b]
            yield a[objects], b[objects]
    yield _equal_keys(found.keys)
    yield from _links(grid, pieces, found)


def _equal_keys(keys: IntArray) -> tuple[IntArray, IntArray]:
    with_key = np.flatnonzero(keys >= 0)
    order = with_key[np.argsort(keys[with_key], kind="stable")]
    same = keys[order[:-1]] == keys[order[1:]]
    return order[:-1][same], order[1:][same]


def _links(grid: TileGrid, pieces: Pieces, found: _Gathered) -> Iterator[tuple[IntArray, IntArray]]:
    cached = functools.lru_cache(maxsize=_cache_size(grid))(pieces)
    for number in range(len(grid)):
        links = cached(number)["links"].astype(np.int64)
        if len(links) == 0:
            continue
        frame_size = int(np.prod(grid.shape))
        positions = np.stack(np.unravel_index(links[:, 1] % frame_size, grid.shape), axis=1)
        index = positions // np.array(grid.side)
        tile_in_frame = np.ravel_multi_index(tuple(index.T), grid.counts)
        owners = links[:, 1] // frame_size * grid.tiles_per_frame + tile_in_frame
        for owner in np.unique(owners):
            mine = owners == owner
            labels = _labels_at(cached(int(owner)), grid.tile(int(owner)), positions[mine])
            here = found.offsets[number] + links[mine, 0] - 1
            there = found.offsets[owner] + labels - 1
            inside = labels > 0
            yield here[inside], there[inside]


def _labels_at(record: Mapping[str, NDArray[Any]], tile: Tile, positions: IntArray) -> IntArray:
    """Labels of pixels that lie on the border of a tile's core."""
    local = positions - np.array(tile.core.start)
    labels = np.zeros(len(local), np.int64)
    for axis, size in enumerate(tile.core.shape):
        rest = tuple(np.delete(local, axis, axis=1).T)
        for side, coordinate in ((0, 0), (1, size - 1)):
            on_face = local[:, axis] == coordinate
            face = record[f"face.{axis}.{side}"]
            labels[on_face] = face[tuple(r[on_face] for r in rest)]
    return labels


def contacts(
    grid: TileGrid, faces: Pieces, connectivity: int
) -> Iterator[tuple[int, int, IntArray, IntArray]]:
    """Labels of different tiles that are neighbours.

    Parameters
    ----------
    grid : TileGrid
    faces : callable
        Record of a tile with its "face.{axis}.{side}".
    connectivity : int

    Yields
    ------
    here, there : int
        Numbers of two tiles.
    a, b : ndarray of shape (n,), int64
        Labels of the first that touch labels of the second, each pair once, none 0.
    """
    cached = functools.lru_cache(maxsize=_cache_size(grid))(faces)
    axes_apart = AXES_APART[grid.ndim][connectivity]
    for tile in grid.tiles():
        for direction in _half_of_directions(grid.ndim, axes_apart):
            other = grid.neighbour(tile, direction)
            if other is None:
                continue
            codes = [
                _pairs(cached(tile.number), cached(other.number), direction, offset)
                for offset in _offsets(direction, axes_apart)
            ]
            pairs = split_codes(np.unique(np.concatenate(codes)))
            yield tile.number, other.number, pairs[:, 0], pairs[:, 1]


def _contacts(
    grid: TileGrid, pieces: Pieces, found: _Gathered, connectivity: int
) -> Iterator[tuple[IntArray, IntArray]]:
    """Pieces of different tiles that are neighbours, as pairs of global numbers."""
    for here, there, a, b in contacts(grid, pieces, connectivity):
        yield found.offsets[here] + a - 1, found.offsets[there] + b - 1


def _cache_size(grid: TileGrid) -> int:
    """Tiles whose faces are needed together: a row of tiles in 2D, a layer in 3D, and one more."""
    return int(np.prod(grid.counts[1:])) + grid.counts[-1] + 3


def _half_of_directions(ndim: int, axes_apart: int) -> list[tuple[int, ...]]:
    """Directions to neighbouring tiles, one of each opposite pair."""
    return [
        d
        for d in itertools.product((-1, 0, 1), repeat=ndim)
        if d > (0,) * ndim and sum(map(abs, d)) <= axes_apart
    ]


def _offsets(direction: tuple[int, ...], axes_apart: int) -> list[tuple[int, ...]]:
    """Steps between neighbouring pixels that cross exactly the borders of `direction`."""
    choices = [(d,) if d else (-1, 0, 1) for d in direction]
    return [o for o in itertools.product(*choices) if sum(map(abs, o)) <= axes_apart]


def _pairs(
    here: Mapping[str, NDArray[Any]],
    there: Mapping[str, NDArray[Any]],
    direction: tuple[int, ...],
    offset: tuple[int, ...],
) -> NDArray[np.uint64]:
    """Codes (label here, label there) of the pixel pairs that lie `offset` apart."""
    axis = next(i for i, d in enumerate(direction) if d)
    own = here[f"face.{axis}.{1 if direction[axis] > 0 else 0}"]
    its = there[f"face.{axis}.{0 if direction[axis] > 0 else 1}"]
    own_cut: list[slice] = []
    its_cut: list[slice] = []
    for i, (d, o) in enumerate(zip(direction, offset, strict=True)):
        if i == axis:
            continue
        if d > 0:
            own_cut.append(slice(-1, None))
            its_cut.append(slice(0, 1))
        elif d < 0:
            own_cut.append(slice(0, 1))
            its_cut.append(slice(-1, None))
        else:
            own_cut.append(slice(max(0, -o), None if o <= 0 else -o))
            its_cut.append(slice(max(0, o), None if o >= 0 else o))
    a = own[tuple(own_cut)].ravel()
    b = its[tuple(its_cut)].ravel()
    both = (a > 0) & (b > 0)
    return (a[both].astype(np.uint64) << np.uint64(32)) | b[both].astype(np.uint64)


def _without_dropped(found: _Gathered, sets: DisjointSets) -> _Gathered:
    """Make background of the objects of which no piece is kept."""
    if found.kept[found.is_object].all():
        return found
    names = sets.names()
    kept = np.zeros(len(names), np.bool_)
    np.logical_or.at(kept, names, found.kept)
    return replace(found, is_object=found.is_object & kept[names])


def _fill_holes(grid: TileGrid, pieces: Pieces, found: _Gathered, sets: DisjointSets) -> None:
    """Unite every object with all that it encloses."""
    faces = face_connectivity(grid.ndim)
    edges: list[IntArray] = []
    for a, b in _contacts(grid, pieces, found, faces):
        background = ~found.is_object[a] & ~found.is_object[b]
        sets.unite(a[background], b[background])
        edges.append(np.stack([a, b], axis=1))
    for number in range(len(grid)):
        edge = pieces(number)["adjacent"].astype(np.int64) - 1 + found.offsets[number]
        # What was dropped is one with the background that it lies in.
        background = ~found.is_object[edge].any(axis=1)
        sets.unite(edge[background, 0], edge[background, 1])
        edges.append(edge)
    names = sets.names()
    nodes, node_of = np.unique(names, return_inverse=True)
    at_border = np.zeros(len(nodes), np.bool_)
    np.logical_or.at(at_border, node_of, found.at_border)
    by_node = node_of[np.concatenate(edges)]
    apart = by_node[:, 0] != by_node[:, 1]
    # Nodes may number more than 2**32 in theory only: a code needs each below that.
    distinct = split_codes(np.unique(pair_codes(by_node[apart, 0], by_node[apart, 1])))
    outer = enclosers(distinct, found.is_object[nodes], at_border)
    enclosed = np.flatnonzero(outer >= 0)
    sets.unite(nodes[enclosed], nodes[outer[enclosed]])


def _keys_of_objects(found: _Gathered, sets: DisjointSets) -> IntArray:
    """The key of the object that each piece belongs to so far; -1 for background."""
    names = sets.names()
    key = np.full(len(names), -1, np.int64)
    np.maximum.at(key, names, found.keys)
    return key[names]


def _first_pieces(found: _Gathered, names: IntArray, whole: _Whole) -> IntArray:
    """The piece that holds the first pixel of each object, at the object's name."""
    first = np.zeros(len(names), np.int64)
    heads = np.flatnonzero(found.anchor == whole.anchor[names])
    first[names[heads]] = heads
    return first


@dataclass(frozen=True, slots=True)
class _Whole:
    """One entry a piece; only those at the names of sets are meaningful."""

    anchor: IntArray
    area: IntArray
    at_border: NDArray[np.bool_]
    is_object: NDArray[np.bool_]


def _whole_objects(found: _Gathered, names: IntArray) -> _Whole:
    count = len(names)
    area = np.zeros(count, np.int64)
    np.add.at(area, names, found.area)
    anchor = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(anchor, names, found.anchor)
    at_border = np.zeros(count, np.bool_)
    np.logical_or.at(at_border, names, found.at_border)
    is_object = np.zeros(count, np.bool_)
    np.logical_or.at(is_object, names, found.is_object)
    return _Whole(anchor, area, at_border, is_object & (names == np.arange(count)))
