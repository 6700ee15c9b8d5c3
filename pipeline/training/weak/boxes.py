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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.annotations.shapes import Shapes, read_shapes
from pipeline.box import Box
from pipeline.box_cut import cut_box
from pipeline.byte_survey import BYTE_RANGE, as_bytes
from pipeline.training.read_labels import without_gaps
from pipeline.training.recipe import TrainingRecipe
from pipeline.training.sections import GrabCutSection
from pipeline.training.weak.label import Drawn, Learned, Seen, WeakLabel, WrongData


@dataclass(frozen=True, slots=True)
class DrawnBoxes(WeakLabel):
    """Files of boxes; lines in them mark what is certain."""

    files: Drawn

    def learn(self, seen: Seen, recipe: TrainingRecipe) -> Learned:
        shapes, name = read_shapes(seen.shapes_of(self.files)), self.files.path.name
        if not len(shapes.boxes) and not recipe.data.allow_empty:
            raise WrongData("empty", f"{name} holds no box")
        rule = recipe.data.grabcut
        for k in range(len(shapes.boxes)):
            crop = shapes.box(k).grow(rule.margin_px, Box.whole(seen.shape[1:]))
            if crop.size > rule.max_box_px:
                raise WrongData(
                    "drawn",
                    f"box {k + 1} of {name} has {crop.size} px with its margin, the limit is "
                    f"{rule.max_box_px} (data.grabcut.max_box_px)",
                )
        pixels = as_bytes(np.moveaxis(seen.pixels, 1, 0), {BYTE_RANGE: _ranges(seen.pixels)})
        frames = [
            objects_in_boxes(one, shapes, number, rule)
            for number, one in enumerate(np.moveaxis(pixels, 1, 0))
        ]
        return Learned(objects=np.stack(frames))


def _ranges(pixels: NDArray[Any]) -> NDArray[np.float64]:
    """Lowest and highest value of each channel (F, C, \\*S), of all frames."""
    flat = np.moveaxis(pixels, 1, 0).reshape(pixels.shape[1], -1)
    return np.stack([flat.min(1), flat.max(1)], axis=1).astype(np.float64)


def objects_in_boxes(
    pixels: NDArray[np.uint8], shapes: Shapes, frame: int, rule: GrabCutSection
) -> NDArray[np.int32]:
    """Cut an object out of every box of a frame.

    As the method `grabcut` does, but where boxes share pixels, and where nothing is found.

    Parameters
    ----------
    pixels : ndarray of shape (C, Y, X), uint8
        One channel or three.
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
    colours = np.ascontiguousarray(np.broadcast_to(np.moveaxis(pixels, 0, -1), (*shape, 3)))
    own = [k for k in range(len(shapes.boxes)) if shapes.boxes[k, 0] == frame]
    found = np.zeros(shape, np.int32)
    nearest = np.full(shape, np.inf)
    for k in own:
        box = shapes.box(k)
        crop = box.grow(rule.margin_px, Box.whole(shape))
        lines = shapes.marks(frame, box, (shape[0], shape[1]))
        mask = cut_box(colours[crop.slices], box.within(crop), lines, rule.iterations, rule.seed)
        away = _from_middle(box.shape)
        taken = (mask if mask.any() else np.ones(box.shape, bool)) & (away < nearest[box.slices])
        found[box.slices][taken] = k + 1
        nearest[box.slices][taken] = away[taken]
    return without_gaps(found)


def _from_middle(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Squared distance of each pixel of a box to its middle, in sides of the box."""
    y, x = (((np.arange(n) + 0.5) / n - 0.5) ** 2 for n in shape)
    return np.asarray(y[:, None] + x)
