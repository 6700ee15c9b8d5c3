"""Labels that are there already, in an image beside the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from pipeline.companions import Pattern
from pipeline.label_keys import label_keys
from pipeline.methods.base import Context, EmittingRound, Method, Output, Round, State, TileLabels
from pipeline.methods.checks import check_label_image
from pipeline.view import TileView

DONE = "given.done"
#: What the label image is called among an image's companions.
FILE = "labels"


class Given(Method):
    """Objects of a label image, by whatever made it: to measure, clean, merge or publish them.

    `file`: the label image beside the image, of its size, see `pipeline.companions`. 0 is
    background, all pixels of another number are one object of their frame; in 2D the planes of a
    stack have objects of their own.

    Exact: numbers are the file's.
    """

    method: Literal["given"]
    file: Pattern

    seconds_per_megapixel: ClassVar[float] = 0.05

    def companions(self) -> dict[str, str]:
        return {FILE: self.file}

    def next_round(self, state: State, context: Context) -> Round | None:
        return None if DONE in state else ReadLabels()

    def check(self, context: Context) -> None:
        check_label_image(FILE, context)

    def halo_px(self) -> int:
        return 0

    def peak_bytes_per_px(self) -> float:
        # numbers 8, keys 8, their order 8, labels 4 + 4
        return 32.0

    def certificate(self, state: State) -> dict[str, Any]:
        return {"exact": True, "rule": "the objects are those of the given label image"}


@dataclass(frozen=True)
class ReadLabels(EmittingRound):
    """Read the labels of every core."""

    name: ClassVar[str] = "read"
    done: ClassVar[str] = DONE

    def map(self, view: TileView, state: State) -> Output:
        numbers = view.companion_labels(FILE, view.tile.core)
        found, place = np.unique(np.where(numbers > 0, numbers, 0), return_inverse=True)
        # The background is number 0, whether it occurs or not.
        labels = place.reshape(numbers.shape).astype(np.uint32) + np.uint32(found[0] > 0)
        return Output({}, TileLabels(labels, keys=label_keys(view, FILE, found[found > 0])))
