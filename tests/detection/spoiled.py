"""Touching cells, and a detector that spoils all that touches an inner end of its window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from pipeline.box import Box
from pipeline.detection.detections import Candidates, Detections, Masks, no_detections, quantised
from pipeline.detection.detector import Detector
from pipeline.detection.method import DetectorMethod
from pipeline.methods.base import Context, State

Labels = NDArray[np.integer[Any]]


def cells(shape: tuple[int, ...], count: int, seed: int = 0) -> NDArray[np.uint16]:
    """Convex cells that cover all pixels, dense at one end of the last axis and sparse at the
    other; a pixel has the number of its cell, by the raster rank of first pixels."""
    generator = np.random.default_rng(seed)
    seeds = generator.random((count, len(shape)))
    seeds[:, -1] **= 1.7
    places = np.stack(np.indices(shape), axis=-1).reshape(-1, len(shape))
    nearest = cKDTree(seeds * shape).query(places)[1].reshape(shape)
    return renumbered(nearest + 1).astype(np.uint16)


def renumbered(labels: Labels) -> NDArray[np.int64]:
    """The same partition, numbered by first pixels in raster order."""
    found, first = np.unique(labels, return_index=True)
    first, found = first[found > 0], found[found > 0]
    number = np.zeros(int(labels.max(initial=0)) + 1, np.int64)
    number[found[np.argsort(first)]] = np.arange(1, len(found) + 1)
    return number[labels]


def longest_side(labels: Labels) -> int:
    """Of the boxes of all objects."""
    boxes = ndimage.find_objects(labels.astype(np.int64))
    return max(s.stop - s.start for box in boxes if box is not None for s in box)


@dataclass(frozen=True)
class Spoiling(Detector):
    """Reads the truth from the pixels: whole objects come as they are, with duplicates.

    Those that an inner end of the window touches are cut, frayed, have other anchors and scores in
    every window, and some are missing if `misses`.
    """

    misses: bool = True

    stride_px: ClassVar[int] = 8

    def look(self, pixels: NDArray[Any], window: Box, block: Box, frame: Box) -> Detections:
        assert pixels.shape[1:] == window.shape
        inside = window.intersect(frame)
        labels = pixels[0][inside.within(window)].astype(np.int64)
        found = _List(frame.ndim)
        for number, cut in enumerate(ndimage.find_objects(labels), 1):
            if cut is None:
                continue
            mask = labels[cut] == number
            start = np.array([s.start for s in cut]) + inside.start
            stop = start + mask.shape
            inner = (start == inside.start) & (start > 0)
            inner |= (stop == inside.stop) & (stop < np.array(frame.shape))
            if inner.any():
                self._spoil(found, number, mask, start, window)
            else:
                _add_with_duplicates(found, number, mask, start)
        return found.detections()

    def _spoil(
        self, found: _List, number: int, mask: NDArray[np.bool_], start: Any, window: Box
    ) -> None:
        generator = np.random.default_rng([number, *window.start, *window.stop])
        if self.misses and generator.random() < 0.4:
            return
        frayed = mask & (generator.random(mask.shape) < 0.7)
        anchor = start + (np.array(mask.shape) * generator.random(mask.ndim)).astype(int)
        found.add(anchor, generator.random(), 1, start, frayed)


def _add_with_duplicates(
    found: _List, number: int, mask: NDArray[np.bool_], start: NDArray[np.int64]
) -> None:
    """The object, and up to three worse ones of lower score whose anchors lie around it."""
    generator = np.random.default_rng(number)
    score = 0.6 + 0.1 * (number % 5)
    anchor = start + np.array(mask.shape) // 2
    found.add(anchor, score, 1, start, mask)
    for _ in range(number % 4):
        worse = mask & (generator.random(mask.shape) < 0.85)
        place = start + (np.array(mask.shape) * generator.random(mask.ndim)).astype(int)
        if worse.sum() > 0.6 * mask.sum():
            found.add(place, score - generator.random() / 2, 1, start, worse)


class _List:
    """Detections, one after the other."""

    def __init__(self, ndim: int) -> None:
        self.ndim = ndim
        self.rows: list[tuple[Any, float, int, Any, NDArray[np.bool_]]] = []

    def add(self, anchor: Any, score: float, kind: int, start: Any, mask: Any) -> None:
        self.rows.append((anchor, score, kind, start, mask))

    def detections(self) -> Detections:
        if not self.rows:
            return no_detections(self.ndim)
        anchor, score, kind, start, masks = zip(*self.rows, strict=True)
        begin = np.array(start, np.int64)
        stop = begin + np.array([m.shape for m in masks])
        box = np.concatenate([begin, stop], axis=1).astype(np.float32)
        candidates = Candidates(
            np.array(anchor, np.int64), box, quantised(score), np.array(kind, np.int32)
        )
        return Detections(candidates, Masks.of(begin, masks))


class SpoiledCells(DetectorMethod):
    """The method of `Spoiling`."""

    method: Literal["spoiled_cells"]
    misses: bool = True
    overlap_of: Literal["box", "mask"] = "mask"

    dims: ClassVar[tuple[int, ...]] = (2,)

    def detector(self, state: State, context: Context) -> Detector:
        return Spoiling(self.misses)


class SpoiledVolumes(SpoiledCells):
    dims: ClassVar[tuple[int, ...]] = (3,)
