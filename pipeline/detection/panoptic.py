"""Emitting things and stuff: every pixel is of one object, or of one class that is no object."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.detection.paste import KEYS, Paste
from pipeline.grid import TileGrid
from pipeline.kernels.relabel import numbered, relabel
from pipeline.methods.base import Output, State, TileLabels
from pipeline.methods.classifier import Classifier
from pipeline.view import TileView

#: Columns of the object table.
FACTS = {"class_id": "int32", "is_thing": "uint8", "score": "float32"}


@dataclass(frozen=True)
class PasteOver(Paste):
    """Emit the objects that were kept, and the stuff that shows between them.

    A class of stuff is one segment a frame. Its score in the table is NaN.

    Parameters
    ----------
    blocks : TileGrid
        Of the detector.
    stuff : Classifier
        Whose model is in the state.
    class_id : tuple of int
        Class of the segments that pixels of each of the classifier's classes form; 0: of none. The
        first is that of pixels without a value.
    """

    blocks: TileGrid
    stuff: Classifier
    class_id: tuple[int, ...]

    def map(self, view: TileView, state: State) -> Output:
        labels, thing_keys, things = self.pasted(view, state)
        kind = relabel(self.stuff.classify(view, state), np.array(self.class_id, np.int32))
        kind[labels > 0] = 0
        number, shown = numbered(kind, max(self.class_id) + 1)
        labels += np.where(number > 0, number + np.uint32(len(things)), np.uint32(0))
        # Things have the keys of blocks; these are of blocks behind the last one.
        stuff_keys = (len(self.blocks) + view.tile.frame) * KEYS + shown
        facts = {
            "class_id": np.concatenate([things.class_id, shown]),
            "is_thing": np.repeat(np.array([1, 0], np.uint8), [len(things), len(shown)]),
            "score": np.concatenate([things.probability, np.full(len(shown), np.nan)]),
        }
        keys = np.concatenate([thing_keys, stuff_keys])
        return Output({}, TileLabels(labels, keys=keys, facts=facts))
