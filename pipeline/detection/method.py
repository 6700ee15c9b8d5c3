"""The fields that methods with a detector share, and their rounds.

[survey]    numbers of the normalisation
detect      blocks, in windows with a margin; again where an object may be cut
suppress    the candidates of all blocks, until every one is kept or suppressed
paste       the kept masks that meet each tile
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, Literal

from pydantic import Field

from pipeline.blocks import block_grid
from pipeline.detection.detect import AGAIN, DEVICES, Detect
from pipeline.detection.detector import Detector
from pipeline.detection.paste import Paste, fact_columns
from pipeline.detection.suppress import Suppress
from pipeline.grid import TileGrid
from pipeline.methods.base import Context, Method, Round, State


class DetectorMethod(Method):
    """Objects that a detector finds, each once, whatever the tiles.

    `overlap`: an object goes if a better one overlaps it by more, in intersection over union;
    `overlap_of`: of their boxes or of their masks; `across_classes`: whether objects of different
    classes count, too. `block_px`: side of the blocks that the detector works on; with `object_px`
    and `context_px` it decides what the detector sees, so it is part of the result. `object_px`:
    longest usual object; one that is longer costs a second look in a larger window. `context_px`:
    how much of an object's surroundings must be seen for it to be found as in the whole image.
    `max_object_px`: an image with an object that is longer is refused, if its block's largest
    window may cut it.

    Pixels that several objects claim belong to the one of the highest score (then the lowest
    class, then the first anchor). The table has each object's score, class and box.

    Exact: windows follow from the frame and the recipe, and suppression is that of the whole list.
    """

    overlap: float = Field(default=0.5, ge=0, lt=1)
    overlap_of: Literal["box", "mask"] = "box"
    across_classes: bool = False
    block_px: int = Field(default=512, ge=16, le=16384)
    object_px: int = Field(default=128, ge=1, le=16384)
    context_px: int = Field(default=32, ge=0, le=16384)
    max_object_px: int = Field(default=512, ge=1, le=2**20)

    @abstractmethod
    def detector(self, state: State, context: Context) -> Detector:
        """What looks at the windows; `state` has what `survey_round` found."""

    def survey_round(self, state: State, context: Context) -> Round | None:
        """The next round that the detector needs to know the whole image by, if any."""
        return None

    @property
    def margin_px(self) -> int:
        """Around a block, when it is looked at first."""
        return self.object_px + self.context_px

    def next_round(self, state: State, context: Context) -> Round | None:
        finding = self.finding_round(state, context)
        if finding is not None or Paste.done in state:
            return finding
        return Paste(self.blocks(context))

    def finding_round(self, state: State, context: Context) -> Round | None:
        """The next round of finding the objects; None when `state` and scratch hold them."""
        blocks = self.blocks(context)
        if not Detect.is_done(state):
            survey = self.survey_round(state, context)
            if survey is not None:
                return survey
            detector = self.detector(state, context)
            return Detect(detector, blocks, self.margin_px, self.context_px, self.max_object_px)
        if not Suppress.is_done(state):
            return Suppress(blocks, self.overlap, self.overlap_of, self.across_classes)
        return None

    def blocks(self, context: Context) -> TileGrid:
        """The blocks of the frames."""
        return block_grid(context.grid, (self.block_px,) * context.grid.ndim)

    def wants_gpu(self) -> bool:
        return True

    def fact_columns(self) -> dict[str, str]:
        return fact_columns("zyx"[-max(self.dims) :])

    def halo_px(self) -> int:
        return 0  # windows are those of blocks: see `extra_bytes`

    def window_px(self, context: Context) -> int:
        """Pixels of the largest window that a block may have."""
        margin = max(self.margin_px, self.max_object_px + self.context_px)
        return math.prod(min(n, self.block_px + 2 * margin) for n in context.grid.shape)

    def peak_bytes_per_px(self) -> float:
        # labels 4, and masks that are kept: a bit, then a byte each, two deep
        return 8.0

    def passes(self) -> str:
        return "1 and the margins of blocks; again where objects are longer than object_px"

    def least_passes(self) -> int:
        return 3

    def certificate(self, state: State) -> dict[str, Any]:
        found: dict[str, Any] = {
            "exact": True,
            "rule": "an object belongs to the block of its anchor; one order of all objects",
        }
        if Detect.is_done(state):
            found |= {
                "blocks_looked_at_again": int(state[AGAIN]),
                "devices": state[DEVICES].tolist(),
            }
        return found
