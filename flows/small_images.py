"""Small images, several in one batch: one worker does each from beginning to end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from flows.admission import Submit
from pipeline.engine import Published
from pipeline.errors import ClusterError
from pipeline.methods.base import State
from pipeline.plan import ImagePlan
from workers.tasks import SmallImages, segment_small

#: Pixels and images of one batch of small images: about a second of work.
SMALL_BATCH_PX = 4_000_000
SMALL_BATCH_IMAGES = 32


def small_batches(plans: Sequence[ImagePlan], state: State) -> Iterator[SmallImages]:
    """Images, put into batches in their order."""
    batch: list[ImagePlan] = []
    pixels = 0
    for plan in plans:
        full = pixels + plan.pixels > SMALL_BATCH_PX or len(batch) == SMALL_BATCH_IMAGES
        if batch and full:
            yield SmallImages(tuple(batch), state)
            batch, pixels = [], 0
        batch.append(plan)
        pixels += plan.pixels
    if batch:
        yield SmallImages(tuple(batch), state)


def segment_batches(
    submit: Submit, batches: Iterable[SmallImages]
) -> Iterator[tuple[ImagePlan, list[Published] | BaseException]]:
    """Segment the images of some batches; yields each with its results or what went wrong."""
    lost: list[SmallImages] = []
    for batch, answer in submit(segment_small, batches):
        if isinstance(answer, ClusterError):
            raise answer
        if isinstance(answer, BaseException) and len(batch.plans) > 1:
            # One image can take its worker down; the others must not suffer for it.
            lost += [SmallImages((plan,), batch.state) for plan in batch.plans]
            continue
        answers = [answer] if isinstance(answer, BaseException) else answer
        yield from zip(batch.plans, answers, strict=True)
    if lost:
        yield from segment_batches(submit, lost)
