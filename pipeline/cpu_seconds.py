"""What time an image takes, before anything of it is read."""

from __future__ import annotations

from pipeline.job import ImageJob
from pipeline.output import output_mode


def seconds_per_megapixel(job: ImageJob) -> float:
    """CPU seconds of reading, writing, filtering and segmenting a megapixel; rough."""
    filters = 0.03 * len(job.recipe.preprocess)
    copied = output_mode(job.recipe, job.source) == "copy"
    copy = 0.03 * job.info.shape[1] if copied else 0.0
    soft = 0.06 * job.recipe.probability_count
    quality = 0.015 * job.info.shape[1] if job.recipe.measure.quality else 0.0
    # Final labels are looked up and numbered once for all that is measured.
    more = job.recipe.gathered()
    measured = sum((one.cpu_seconds_per_megapixel(job) for one in more), 0.03 if more else 0.0)
    own = job.recipe.segment.cpu_seconds_per_megapixel()
    return 0.06 + filters + copy + soft + quality + measured + own
