"""Panoptic segmentation: objects that a detector finds over the classes that a network tells."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BeforeValidator, model_validator

from pipeline.detection.panoptic import FACTS, PasteOver
from pipeline.methods.base import Context, Method, Round, State
from pipeline.methods.mask_rcnn import MaskRCNN
from pipeline.methods.network import Network
from pipeline.nets.heads import ClassesHead
from pipeline.nets.reading import class_names, head_of


class Panoptic(Method):
    """Every pixel's segment: things, which are objects, over stuff, which is one segment a class.

    `stuff`: the method `network` with its parameters, or only the model. Its classes are stuff but
    for the background and what its card calls `things`. `things`: the method `mask_rcnn` with its
    parameters, or only the model.

    A pixel is the first thing's in the order of `mask_rcnn`; else it is of the stuff whose class is
    the network's; pixels of the background, and those that the network takes for a thing that was
    not found, are 0. A class of stuff is one segment a frame, wherever its pixels are. The table
    has `class_id` (kinds of things, then of stuff, each in the order of its card), `is_thing`, and
    the score of things; the certificate of an image has the names of the classes.

    Exact as its parts: both see blocks that do not depend on tiles.

    References
    ----------
    Kirillov, He, Girshick, Rother, Dollár, Panoptic segmentation, CVPR 2019,
    doi:10.1109/CVPR.2019.00963
    """

    method: Literal["panoptic"]
    stuff: Annotated[Network, BeforeValidator(lambda given: _section(given, "network"))]
    things: Annotated[MaskRCNN, BeforeValidator(lambda given: _section(given, "mask_rcnn"))]

    dims: ClassVar[tuple[int, ...]] = (2,)

    @model_validator(mode="after")
    def _only_classes_count(self) -> Self:
        if self.stuff.output != "labels" or self.stuff.object_classes is not None:
            raise ValueError(
                "stuff: `output` and `object_classes` mean nothing here; all classes are stuff but "
                "the background and the card's `things`"
            )
        if not self.stuff_classes:
            raise ValueError(
                f"stuff: the model {self.stuff.cards[0].name!r} tells no class that is stuff; "
                "`method: mask_rcnn` finds things alone"
            )
        return self

    @property
    def stuff_classes(self) -> tuple[int, ...]:
        """Classes of the network that are stuff, numbered from 1."""
        card = self.stuff.cards[0]
        head = head_of(card, ClassesHead)
        if not isinstance(head, ClassesHead):
            return ()
        apart = {head.background, *head.things}
        return tuple(i for i, name in enumerate(class_names(card), 1) if name not in apart)

    @property
    def segment_names(self) -> tuple[str, ...]:
        """Names of the classes of segments, from class 1 on: things, then stuff."""
        names = class_names(self.stuff.cards[0])
        return (*self.things.card.object_names, *(names[i - 1] for i in self.stuff_classes))

    def next_round(self, state: State, context: Context) -> Round | None:
        finding = self.stuff.model_round(state, context) or self.things.finding_round(
            state, context
        )
        if finding is not None or PasteOver.done in state:
            return finding
        class_id = np.zeros(self.stuff.class_count() + 1, np.int32)
        things = len(self.things.card.object_names)
        class_id[list(self.stuff_classes)] = things + 1 + np.arange(len(self.stuff_classes))
        return PasteOver(self.things.blocks(context), self.stuff, tuple(class_id.tolist()))

    def fact_columns(self) -> dict[str, str]:
        return dict(FACTS)

    def check(self, context: Context) -> None:
        self.stuff.check(context)
        self.things.check(context)

    def wants_gpu(self) -> bool:
        return True

    def is_dataset_wide(self) -> bool:
        return self.stuff.is_dataset_wide() or self.things.is_dataset_wide()

    def halo_px(self) -> int:
        return self.stuff.halo_px()

    def peak_bytes_per_px(self) -> float:
        # the labels of things and of all 8, masks of things 8 at most, classes 3
        return self.stuff.peak_bytes_per_px() + self.things.peak_bytes_per_px() + 12.0

    def extra_bytes(self, context: Context) -> int:
        # a worker keeps both models
        return self.stuff.extra_bytes(context) + self.things.extra_bytes(context)

    def scratch_bytes_per_px(self) -> float:
        return self.stuff.scratch_bytes_per_px()

    def least_passes(self) -> int:
        return self.stuff.least_passes() - 1 + self.things.least_passes()

    def passes(self) -> str:
        return f"{self.least_passes()} and the margins of blocks"

    def cpu_seconds_per_megapixel(self) -> float:
        parts = (self.stuff, self.things)
        return sum(part.cpu_seconds_per_megapixel() for part in parts)

    def certificate(self, state: State) -> dict[str, Any]:
        return {
            "exact": True,
            "rule": "things in one order of all objects, over the classes of the network",
            "classes": list(self.segment_names),
            "stuff": self.stuff.certificate(state),
            "things": self.things.certificate(state),
        }


def _section(given: Any, method: str) -> Any:
    """A section of a recipe, where only the model may be given."""
    return {"method": method, "model": given} if isinstance(given, str) else given
