"""The order that reads the image where it comes from: each of its shards once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.box import Box
from pipeline.grid import Tile, TileGrid
from pipeline.job import ImageJob
from pipeline.orders import Order, Receipt, digest_levels, receipt_of
from pipeline.pyramid import Pixels, Pyramid, write_shard
from pipeline.quality.sums import measure_region
from pipeline.quality.table import SCHEMA, quality_table
from pipeline.record_files import Part, flatten, open_record
from pipeline.records import Record
from pipeline.sources import Source
from pipeline.storage import AnyPath
from pipeline.table_file import TableFile
from pipeline.view import opened

#: Kind of the record of a shard's quality.
QUALITY = "quality"


@dataclass(frozen=True)
class ReadOrder(Order):
    """Copy some shards of the image into its pyramid, measure their quality, or both.

    Parameters
    ----------
    shards : TileGrid
    pyramid : Pyramid or None
        Where they are copied to.
    quality : bool
        Whether they are measured.
    record_path : str
    """

    job: ImageJob
    numbers: tuple[int, ...]
    shards: TileGrid
    pyramid: Pyramid | None
    quality: bool
    record_path: str

    def perform(self) -> Receipt:
        begun = time.perf_counter()
        source = opened(self.job.source, self.job.plan)
        digests = []
        measured: dict[int, Record] = {}
        pixels = 0
        for number in self.numbers:
            shard = self.shards.tile(number)
            region = self._read(source, shard)
            if self.pyramid is not None:
                digests.append(digest_levels(write_shard(self.pyramid, number, region)))
            if self.quality:
                measured[number] = measure_region(region, shard.core, self.shards.shape)
            pixels += shard.core.size
        record = flatten(measured, QUALITY)
        path = self.record_path if self.quality else ""
        seconds = time.perf_counter() - begun
        return receipt_of(self.numbers, tuple(digests), record, path, pixels, seconds)

    def _read(self, source: Source, shard: Tile) -> Pixels:
        channels = range(self.job.info.shape[1])
        if self.shards.ndim == 3:
            return source.read(shard.frame, channels, shard.core)
        t, z = divmod(shard.frame, self.job.info.shape[2])
        box = Box((z, *shard.core.start), (z + 1, *shard.core.stop))
        return source.read(t, channels, box)[:, 0]


def write_quality(
    path: AnyPath, job: ImageJob, shards: TileGrid, receipts: Sequence[Receipt]
) -> str:
    """Write the table of an image's quality, from what the orders of all shards left.

    Returns
    -------
    str
        Its digest.
    """
    receipt_of = {number: receipt for receipt in receipts for number in receipt.numbers}

    def record_of(number: int) -> Record:
        receipt = receipt_of[number]
        known = open_record(receipt.path, receipt.digests[-1]) if receipt.path else receipt.record
        return dict(Part(known, number, QUALITY))

    with TableFile(path, SCHEMA) as file:
        for table in quality_table(job.name, job.info, shards, record_of):
            file.add(table)
    return file.digest
