"""Measuring quality in the first round of a method, which reads the pixels anyway.

Sums are still taken shard by shard, so that they are the same bits as those of a pass of their own.
So a core must be made of whole shards; and the round must read all channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.grid import TileGrid
from pipeline.quality.sums import measure_region
from pipeline.records import Record

if TYPE_CHECKING:
    from pipeline.job import ImageJob
    from pipeline.view import TileView

#: Kind of the record of a shard's quality.
QUALITY = "quality"


def can_ride(job: ImageJob, shards: TileGrid) -> bool:
    """Whether the first round of a method can measure all shards while it has their pixels."""
    whole = all(
        tile % shard == 0 or tile == size
        for tile, shard, size in zip(job.grid.side, shards.side, shards.shape, strict=True)
    )
    every = sorted(job.channels) == list(range(job.info.shape[1]))
    return whole and every and not job.recipe.wants_gpu()


def measure_tile(view: TileView, shards: TileGrid) -> dict[int, Record]:
    """Measure the shards of a core, by their numbers."""
    channels = range(view.job.info.shape[1])
    return {
        shard.number: measure_region(view.raw(channels, shard.core), shard.core, shards.shape)
        for shard in shards.touching(view.tile.frame, view.tile.core)
    }
