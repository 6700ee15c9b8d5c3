"""The order that reads the image where it comes from: each of its shards once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.box import Box
from pipeline.grid import Tile, TileGrid
from pipeline.job import ImageJob
from pipeline.orders import Order, Receipt, digest_levels, receipt_of
from pipeline.pyramid import Pixels, Pyramid, write_shard
from pipeline.quality.riding import QUALITY
from pipeline.quality.sums import measure_region
from pipeline.quality.table import SCHEMA, quality_table
from pipeline.record_files import Part, flatten, open_record
from pipeline.records import Record
from pipeline.sources import Source
from pipeline.storage import AnyPath
from pipeline.table_file import TableFile
from pipeline.view import opened


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
    hold_bytes : int
        Unpacked blocks of the source that are kept from shard to shard.
    together : bool
        Read all shards in one go; they make up a box of one frame.
    """

    job: ImageJob
    numbers: tuple[int, ...]
    shards: TileGrid
    pyramid: Pyramid | None
    quality: bool
    record_path: str
    hold_bytes: int = 0
    together: bool = False

    def perform(self) -> Receipt:
        source = opened(self.job.source, self.job.plan)
        source.hold(self.hold_bytes, once=True)
        try:
            return self._perform(source)
        finally:
            source.hold(0)  # what comes next needs the memory

    def _perform(self, source: Source) -> Receipt:
        begun = time.perf_counter()
        region_of = self._regions(source)
        digests = []
        measured: dict[int, Record] = {}
        pixels = 0
        for number in self.numbers:
            shard = self.shards.tile(number)
            region = region_of(shard)
            if self.pyramid is not None:
                digests.append(digest_levels(write_shard(self.pyramid, number, region)))
            if self.quality:
                measured[number] = measure_region(region, shard.core, self.shards.shape)
            pixels += shard.core.size
        record = flatten(measured, QUALITY)
        path = self.record_path if self.quality else ""
        seconds = time.perf_counter() - begun
        return receipt_of(self.numbers, tuple(digests), record, path, pixels, seconds)

    def _regions(self, source: Source) -> Callable[[Tile], Pixels]:
        """What gives the pixels (C, \\*core) of a shard."""
        if not self.together:
            return lambda shard: self._read(source, shard.frame, shard.core)
        shards = [self.shards.tile(number) for number in self.numbers]
        start = tuple(min(s) for s in zip(*(shard.core.start for shard in shards), strict=True))
        stop = tuple(max(s) for s in zip(*(shard.core.stop for shard in shards), strict=True))
        box = Box(start, stop)
        pixels = self._read(source, shards[0].frame, box)
        return lambda shard: np.ascontiguousarray(pixels[(slice(None), *shard.core.within(box))])

    def _read(self, source: Source, frame: int, core: Box) -> Pixels:
        channels = range(self.job.info.shape[1])
        if self.shards.ndim == 3:
            return source.read(frame, channels, core)
        t, z = divmod(frame, self.job.info.shape[2])
        box = Box((z, *core.start), (z + 1, *core.stop))
        return source.read(t, channels, box)[:, 0]


def write_quality(
    path: AnyPath, job: ImageJob, shards: TileGrid, record_of: Callable[[int], Record]
) -> str:
    """Write the table of an image's quality, from the records of its shards.

    Returns
    -------
    str
        Its digest.
    """
    with TableFile(path, SCHEMA) as file:
        for table in quality_table(job.name, job.info, shards, record_of):
            file.add(table)
    return file.digest


def quality_records(receipts: Sequence[Receipt]) -> Callable[[int], Record]:
    """What gives the record of a shard, of all that their orders left."""
    receipt_of = {number: receipt for receipt in receipts for number in receipt.numbers}

    def record_of(number: int) -> Record:
        receipt = receipt_of[number]
        known = open_record(receipt.path, receipt.digests[-1]) if receipt.path else receipt.record
        return dict(Part(known, number, QUALITY))

    return record_of
