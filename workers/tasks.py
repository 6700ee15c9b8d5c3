"""What runs inside a worker: orders of large images, and whole small images."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pipeline.engine import Published
from pipeline.errors import TilewrightError
from pipeline.image_run import engines, run_all
from pipeline.ledger import MemoryLedger
from pipeline.methods.base import State
from pipeline.orders import Order, Receipt
from pipeline.plan import ImagePlan
from pipeline.steps import perform_here

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SmallImages:
    """Images that one worker does from beginning to end.

    Parameters
    ----------
    plans : tuple of ImagePlan
    state : dict of ndarray
        What dataset-wide rounds have found.
    """

    plans: tuple[ImagePlan, ...]
    state: State

    @property
    def wants_gpu(self) -> bool:
        """Whether the recipe has rounds for a GPU: the images then go to one as a whole."""
        parts = (part for plan in self.plans for part in plan.parts)
        return any(part.job.recipe.segment.wants_gpu() for part in parts)


def perform(order: Order) -> Receipt | TilewrightError:
    """Perform one order; an error is an answer, so that it arrives without what it came from."""
    try:
        return order.perform()
    except TilewrightError as error:
        return error.alone()


def segment_small(images: SmallImages) -> list[list[Published] | BaseException]:
    """Segment whole images into staging, all labels of each.

    A failure is that image's answer, not the batch's.
    """
    return [_segment(plan, images.state) for plan in images.plans]


def _segment(plan: ImagePlan, state: State) -> list[Published] | BaseException:
    try:
        return run_all(engines(plan.parts, perform_here, MemoryLedger()), state)
    except TilewrightError as error:
        return error.alone()
    except Exception as error:
        log.exception("%s", plan.job.name)
        return error
