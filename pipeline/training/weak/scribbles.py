"""Scribbles: some pixels of each class are marked, the others are not known.

* lines and paths in GeoJSON (QuPath) or in a table of napari's shapes, see
  `pipeline.annotations.shape_files`: those that are called "background", or lie in a second file,
  mark it, all others the other class; for heads of two classes;
* an image of class numbers, as brushes paint it: 0 is not marked, 1 the first class of the head.

References
----------
Lin, Dai, Jia, He, Sun, ScribbleSup, CVPR 2016, doi:10.1109/CVPR.2016.344
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.annotations.shapes import read_shapes
from pipeline.sources import SourceSpec
from pipeline.training.read_labels import read_labels
from pipeline.training.recipe import TrainingRecipe
from pipeline.training.targets import UNKNOWN
from pipeline.training.weak.label import Drawn, Learned, Seen, WeakLabel, WrongData


@dataclass(frozen=True, slots=True)
class DrawnLines(WeakLabel):
    """Files of lines."""

    files: Drawn

    def learn(self, seen: Seen, recipe: TrainingRecipe) -> Learned:
        head = recipe.class_head()
        background = head.background_index
        if len(head.names) != 2 or background is None:
            raise WrongData(
                "scribbles",
                f"{self.files.path.name} holds lines, which tell background from one class, and "
                f"the head has {len(head.names)} ({', '.join(head.names)})",
            )
        shapes = read_shapes(seen.shapes_of(self.files))
        if len(shapes.boxes):
            name = self.files.path.name
            raise WrongData("scribbles", f"{name} holds a box or polygon, not only lines")
        if not len(shapes.marked):
            raise WrongData("unmarked", f"{self.files.path.name} marks no pixel")
        classes = np.full(seen.shape, UNKNOWN, np.int16)
        # Lines are numbered over planes, and so are frames, be they planes or volumes.
        classes.ravel()[shapes.marked] = np.where(shapes.foreground, 1 - background, background)
        return Learned(classes=classes)


@dataclass(frozen=True, slots=True)
class PaintedImage(WeakLabel):
    """An image of class numbers from 1; 0 is not marked."""

    source: SourceSpec

    def learn(self, seen: Seen, recipe: TrainingRecipe) -> Learned:
        labels = read_labels(self.source, recipe, seen.shape)
        if recipe.data.ignore is not None:
            labels = np.where(labels == recipe.data.ignore, 0, labels)
        count = len(recipe.class_head().names)
        wrong = labels[(labels < 0) | (labels > count)]
        if wrong.size:
            values = ", ".join(map(str, np.unique(wrong)[:5].tolist()))
            raise WrongData(
                "range", f"its scribbles hold {values}, and the classes are 1 to {count}"
            )
        if not labels.any():
            raise WrongData("unmarked", "its scribbles mark no pixel")
        return Learned(classes=labels.astype(np.int16) - 1)
