"""Pieces: what a tile tells of its labels, so that the whole objects can be put together.

A piece is a label of one tile. With `fill_holes` the background's components are pieces too,
numbered behind the objects, for a hole is found only when all its parts are known.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.grid import Tile, TileGrid
from pipeline.kernels.components import components, face_connectivity
from pipeline.kernels.measure import Geometry, Quantum, geometry, intensity
from pipeline.methods.base import TileClasses, TileLabels
from pipeline.records import Record
from pipeline.view import TileView


def probabilities_name(number: int) -> str:
    """Name of the scratch array that holds the probability of a class, counted from 0.

    One array a class: publication holds one at a time, and a block of the codec ends at 2 GiB.
    """
    return f"probabilities-{number}"


def describe_pieces(view: TileView, result: TileLabels) -> Record:
    """Keep a tile's labels in scratch and describe them.

    Returns
    -------
    dict of ndarray, for n pieces
        anchor (n,): smallest linear index; area (n,); start, stop (n, 3): bounding box in the
        frame; sums (n, 3) and seconds (n, 6): from the core's origin; channel.{c}.*: integer
        intensity sums; objects: how many pieces are no background; touching; keys; links; kept,
        where it was said; fact.{name}: of the method's facts, 0 for background;
        adjacent (m, 2): numbers that share a face within the tile, with `fill_holes`;
        face.{axis}.{side}: labels along the core's borders.
    """
    labels = np.ascontiguousarray(result.labels)
    objects = int(labels.max(initial=0))
    record: Record = {"objects": np.array(objects), "touching": np.array(result.touching)}
    count = objects
    if view.job.recipe.postprocess.fill_holes:
        labels, count = _with_background(labels, objects)
        record["adjacent"] = _adjacent(labels)
    shape = geometry(labels, count)
    record.update(_positions(shape, view.tile, view.grid))
    record.update(_intensities(view, labels, shape.area))
    record["keys"] = _keys(result, objects, count)
    record["links"] = result.links
    if result.kept is not None:
        record["kept"] = result.kept
    record.update(_facts(view, result, objects, count))
    record.update(faces_of(labels))
    view.keep_labels(labels)
    return record


def describe_classes(view: TileView, result: TileClasses, count: int) -> Record:
    """Keep a tile's classes in scratch and describe them: one entry a class, of area 0 if absent.

    Probabilities are kept beside them.

    Returns
    -------
    dict of ndarray
        Those of `describe_pieces` that the table needs.
    """
    classes = np.ascontiguousarray(result.classes)
    shape = geometry(classes, count)
    record = _positions(shape, view.tile, view.grid)
    record.update(_intensities(view, classes, shape.area))
    view.keep_labels(classes)
    if result.probabilities is not None:
        for number, probability in enumerate(result.probabilities):
            view.scratch.put(probabilities_name(number), view.tile.number, probability)
    return record


def _keys(result: TileLabels, objects: int, count: int) -> NDArray[np.int64]:
    keys = np.full(count, -1, np.int64)
    if result.keys is not None:
        keys[:objects] = result.keys
    return keys


def _facts(view: TileView, result: TileLabels, objects: int, count: int) -> Record:
    record: Record = {}
    for name, dtype in view.job.recipe.fact_columns().items():
        values = np.zeros(count, dtype)
        values[:objects] = result.facts[name]
        record[fact_key(name)] = values
    return record


def fact_key(name: str) -> str:
    """Key of a fact in the records of pieces."""
    return f"fact.{name}"


def _with_background(labels: NDArray[np.uint32], objects: int) -> tuple[NDArray[np.uint32], int]:
    background, count = components(labels == 0, face_connectivity(labels.ndim))
    return np.where(labels == 0, background + np.uint32(objects), labels), objects + count


def _adjacent(labels: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Pairs of different numbers that share a face, each once, smaller first."""
    found = []
    for axis in range(labels.ndim):
        a = np.moveaxis(labels, axis, 0)[:-1].ravel()
        b = np.moveaxis(labels, axis, 0)[1:].ravel()
        apart = a != b
        found.append(np.unique(pair_codes(a[apart], b[apart])))
    return split_codes(np.unique(np.concatenate(found)))


def pair_codes(a: NDArray[np.integer], b: NDArray[np.integer]) -> NDArray[np.uint64]:
    """One number for an unordered pair of numbers below 2**32."""
    low = np.minimum(a, b).astype(np.uint64)
    high = np.maximum(a, b).astype(np.uint64)
    codes: NDArray[np.uint64] = (low << np.uint64(32)) | high
    return codes


def split_codes(codes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Undo `pair_codes`: an array of shape (m, 2)."""
    low = (codes >> np.uint64(32)).astype(np.int64)
    high = (codes & np.uint64(0xFFFFFFFF)).astype(np.int64)
    return np.stack([low, high], axis=1)


def _positions(found: Geometry, tile: Tile, grid: TileGrid) -> Record:
    origin = np.array((0, *tile.core.start)[-3:], np.int64)
    core = tile.core.shape
    local = np.unravel_index(found.first, core)
    anchor = np.full(len(found.first), tile.frame, np.int64)
    for position, start, n in zip(local, tile.core.start, grid.shape, strict=True):
        anchor = anchor * n + (position + start)
    return {
        "anchor": anchor,
        "area": found.area,
        "start": found.start + origin,
        "stop": found.stop + origin,
        "sums": found.sums,
        "seconds": found.seconds,
    }


def _intensities(
    view: TileView, labels: NDArray[np.unsignedinteger[Any]], area: NDArray[np.int64]
) -> Record:
    record: Record = {}
    for number in view.job.measured:
        pixels = view.raw([number], view.tile.core)[0]
        quantum = Quantum.of(pixels.dtype, *view.raw_range(number))
        found = intensity(labels, np.ascontiguousarray(pixels), area, quantum)
        record[f"channel.{number}"] = found.columns()
    return record


def faces_of(labels: NDArray[np.uint32]) -> Record:
    record: Record = {}
    for axis in range(labels.ndim):
        record[f"face.{axis}.0"] = np.take(labels, 0, axis)
        record[f"face.{axis}.1"] = np.take(labels, -1, axis)
    return record
