"""Boxes: one around each object. GrabCut tells the object from what is around it.

The masks are made once, before training starts, and are learned from as if they were drawn: every
head that is learned from objects can be.

References
----------
Rother, Kolmogorov, Blake, GrabCut, 2004, doi:10.1145/1015706.1015720
Khoreva, Benenson, Hosang, Hein, Schiele, Simple does it: weakly supervised instance and semantic
segmentation, CVPR 2017, doi:10.1109/CVPR.2017.181
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.annotations.shapes import Shapes, read_shapes
from pipeline.box import Box
from pipeline.box_cut import cut
from pipeline.training.recipe import TrainingRecipe
from pipeline.training.sections import GrabCutSection
from pipeline.training.weak.label import Learned, Seen, WeakLabel, WrongLabel


@dataclass(frozen=True, slots=True)
class DrawnBoxes(WeakLabel):
    """A file of boxes; lines in it mark what is certain."""

    path: Path

    def learn(self, seen: Seen, recipe: TrainingRecipe) -> Learned:
        shapes = read_shapes(seen.shapes_of(self.path))
        if not len(shapes.boxes) and not recipe.data.allow_empty:
            raise WrongLabel("empty", f"{self.path.name} holds no box")
        if seen.pixels.shape[1] not in (1, 3):
            raise WrongLabel(
                "channels",
                f"GrabCut takes one channel or three, {seen.pixels.shape[1]} are selected",
            )
        frames = [
            objects_in_boxes(pixels, shapes, number, recipe.data.grabcut)
            for number, pixels in enumerate(seen.pixels)
        ]
        return Learned(objects=np.stack(frames))


def objects_in_boxes(
    pixels: NDArray[Any], shapes: Shapes, frame: int, rule: GrabCutSection
) -> NDArray[np.int32]:
    """Cut an object out of every box of a frame, as the method `grabcut` does.

    Parameters
    ----------
    pixels : ndarray of shape (C, Y, X)
        One channel or three; mapped to 0..255 from their range, where they are not uint8.
    shapes : Shapes
    frame : int
    rule : GrabCutSection

    Returns
    -------
    ndarray of shape (Y, X), int32
        Numbers from 1 without gaps, in the order of the boxes. What was found in several boxes
        belongs to the one whose middle is nearest, in sides of the box. A box in which nothing
        differs from its surroundings is one object as a whole: somebody saw it.
    """
    shape = pixels.shape[1:]
    colours = np.ascontiguousarray(
        np.broadcast_to(np.moveaxis(_as_bytes(pixels), 0, -1), (*shape, 3))
    )
    own = [k for k in range(len(shapes.boxes)) if shapes.boxes[k, 0] == frame]
    found = np.zeros(shape, np.int32)
    nearest = np.full(shape, np.inf)
    for k in own:
        box = shapes.box(k)
        crop = box.grow(rule.margin_px, Box.whole(shape))
        marks = np.full(crop.shape, cv2.GC_BGD, np.uint8)
        inside = marks[box.within(crop)]
        inside[...] = cv2.GC_PR_FGD
        lines = shapes.marks(frame, box, (shape[0], shape[1]))
        for kind, (y, x) in zip((cv2.GC_FGD, cv2.GC_BGD), lines, strict=True):
            inside[y, x] = kind
        mask = cut(colours[crop.slices], marks, rule.iterations, rule.seed)[box.within(crop)]
        away = _from_middle(box.shape)
        taken = (mask if mask.any() else np.ones(box.shape, bool)) & (away < nearest[box.slices])
        found[box.slices][taken] = k + 1
        nearest[box.slices][taken] = away[taken]
    _, places = np.unique(found, return_inverse=True)
    first = 0 if (found == 0).any() else 1
    return (places.reshape(shape) + first).astype(np.int32)


def _from_middle(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Squared distance of each pixel of a box to its middle, in sides of the box."""
    y, x = (((np.arange(n) + 0.5) / n - 0.5) ** 2 for n in shape)
    return np.asarray(y[:, None] + x)


def _as_bytes(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Each channel mapped from its range to 0..255; uint8 stays as it is."""
    if pixels.dtype == np.uint8:
        return pixels
    axes = tuple(range(1, pixels.ndim))
    low, high = (f(pixels, axis=axes, keepdims=True).astype(np.float64) for f in (np.min, np.max))
    part = (pixels - low) / np.maximum(high - low, np.finfo(np.float64).tiny)
    return np.asarray(np.rint(255 * part), np.uint8)
