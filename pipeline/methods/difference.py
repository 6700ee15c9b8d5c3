"""What is left of the objects of one label without those of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import model_validator

from pipeline.label_keys import label_keys
from pipeline.methods.base import Context, EmittingRound, Method, Output, Round, State, TileLabels
from pipeline.methods.checks import check_label_image
from pipeline.view import TileView

DONE = "difference.done"
#: What the two labels are for, see `Method.earlier_labels`.
OF = "of"
WITHOUT = "without"


class Difference(Method):
    """Objects without the pixels of another label, such as cells without their nuclei.

    `of`: a label that the same recipe has made before; `without`: another one. What is left of an
    object has its number, in one part or several; an object that is covered whole is not there.

    Exact: a pixel is taken away by what lies there alone.
    """

    method: Literal["difference"]
    of: str
    without: str

    seconds_per_megapixel: ClassVar[float] = 0.05

    @model_validator(mode="after")
    def _of_another(self) -> Self:
        if self.of == self.without:
            raise ValueError(f"`of` and `without` are both {self.of!r}: nothing would be left")
        return self

    def earlier_labels(self) -> dict[str, str]:
        return {OF: self.of, WITHOUT: self.without}

    def parent_label(self) -> str | None:
        return self.of

    def next_round(self, state: State, context: Context) -> Round | None:
        return None if DONE in state else Subtract()

    def check(self, context: Context) -> None:
        check_label_image(OF, context)
        check_label_image(WITHOUT, context)

    def halo_px(self) -> int:
        return 0

    def peak_bytes_per_px(self) -> float:
        # numbers 4 + 4, what is left 8, places 8, labels 4 + 4
        return 32.0

    def certificate(self, state: State) -> dict[str, Any]:
        return {"exact": True, "rule": "objects of one label, less the pixels of another"}


@dataclass(frozen=True)
class Subtract(EmittingRound):
    """Take the pixels away in every core."""

    name: ClassVar[str] = "subtract"
    done: ClassVar[str] = DONE

    def map(self, view: TileView, state: State) -> Output:
        core = view.tile.core
        numbers = view.companion_labels(OF, core)
        left = np.where(view.companion_labels(WITHOUT, core) > 0, 0, numbers)
        found, place = np.unique(left, return_inverse=True)
        # The background is number 0, whether it occurs or not.
        labels = place.reshape(left.shape).astype(np.uint32) + np.uint32(found[0] > 0)
        return Output({}, TileLabels(labels, keys=label_keys(view, OF, found[found > 0])))
