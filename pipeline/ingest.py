"""Reading an image where it comes from, once: it is copied, its quality measured, or both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.job import ImageJob
from pipeline.orders import Order
from pipeline.output import OutputPlan
from pipeline.quality.riding import QUALITY
from pipeline.read_order import ReadOrder, quality_records, write_quality
from pipeline.shared_blocks import plan_reading
from pipeline.steps import Steps


def ingest(job: ImageJob, output: OutputPlan, steps: Steps) -> tuple[list[str], str]:
    """Read the image into its staged copy, where there is to be one, and measure its quality.

    Returns
    -------
    list of str, str
        Digests of the shards of the copy, and of the table of the image's quality; empty where
        there are none.
    """
    pyramid, quality = output.image, output.measures_quality
    if pyramid is None and not quality:
        return [], ""
    step = QUALITY if pyramid is None else "ingest"
    shards = pyramid or output.labels(0)
    grid, reading = shards.grid(), plan_reading(shards, job.hold_bytes, job.source.seen)

    def order(numbers: tuple[int, ...]) -> Order:
        path, held = steps.record_path(step, numbers), reading.hold_bytes
        return ReadOrder(job, numbers, grid, pyramid, quality, path, held, reading.together)

    def batches(todo: Sequence[int]) -> Iterator[tuple[int, ...]]:
        return reading.batches(todo, steps.batch_tiles)

    if pyramid is None:
        digests: list[str] = []
        with steps.timed(step):
            receipts = steps.do(step, range(len(grid)), order, batches)
    else:
        receipts, digests = steps.write_pyramid(step, job, pyramid, order, batches)
    table = ""
    if quality:
        table = write_quality(output.quality, job, grid, quality_records(receipts))
    output.finish_image()
    return digests, table
