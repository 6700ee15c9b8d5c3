"""What memory a worker takes for an image, and what it leaves for tiles and for what ingest keeps.

The figures are checked against measured peaks by the benchmark `tests/benchmarks/flat_memory.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.job import ImageJob
from pipeline.measurements.measure_round import widest_halo
from pipeline.output import output_mode
from pipeline.preprocess import final_dtype
from pipeline.pyramid import Pyramid
from pipeline.shared_blocks import HOLD_LIMIT_BYTES, plan_reading
from pipeline.sources.cache import CACHE_BYTES
from pipeline.sources.composed import open_parts

#: A worker process with all libraries loaded, measured on Linux with Python 3.11.
WORKER_BASE_BYTES = 330 * 2**20
#: Sides of a core that are tried, largest first.
SIDES = {2: (2048, 1536, 1024, 768, 512, 256, 128), 3: (256, 192, 128, 96, 64, 32)}


def largest_side(job: ImageJob, worker_bytes: int) -> int:
    """Side of the largest core that fits into a worker, unless the recipe has one."""
    recipe = job.recipe
    if recipe.resources.tile_px:
        return recipe.resources.tile_px
    room = worker_bytes - WORKER_BASE_BYTES - recipe.extra_bytes(job.context)
    for side in SIDES[recipe.ndim]:
        sides = tuple(min(side, n) for n in job.grid.shape)
        measuring = _gathering_bytes(job, sides)
        if max(_window_bytes(job, (side,) * recipe.ndim), measuring) <= 0.8 * room:
            return side
    return SIDES[recipe.ndim][-1]


def worker_peak_bytes(job: ImageJob, whole: bool) -> int:
    """Predicted peak of a worker, libraries included.

    Parameters
    ----------
    job : ImageJob
    whole : bool
        One worker does the image from beginning to end, and keeps its labels.
    """
    grid = job.grid
    tile = _window_bytes(job, grid.side) + job.recipe.extra_bytes(job.context)
    tile = max(tile, _gathering_bytes(job, grid.side))
    soft = job.recipe.probability_count
    merged = job.recipe.merge is not None
    kept = grid.pixels * 4 * (1 + soft + merged) if whole else 0
    shard = _shard_px(job)
    # Publication: the region, its encoded shard, and the halves in 64 bits, of labels and the
    # tile's labels beside them; of probabilities, those of all classes together and a tile of one
    # class.
    publish = max(shard * 20, shard * 16 * soft + math.prod(grid.side) * 8 if soft else 0)
    if output_mode(job.recipe, job.source) == "copy":
        ingest = _ingest_bytes(job) + _block_bytes(job, job.hold_bytes)
    else:
        ingest, tile = 0, tile + _block_bytes(job, 0)
    return WORKER_BASE_BYTES + max(tile, ingest, publish) + kept + _parts_bytes(job)


def _parts_bytes(job: ImageJob) -> int:
    """Decoded pixels that the parts of a composed image keep: pictures all of theirs."""
    count, largest = open_parts(job.source, np.dtype(job.info.dtype).itemsize)
    pictures = any(part.spec.reader == "picture" for part in job.source.parts)
    return (count + 1) * (largest if pictures else min(largest, CACHE_BYTES)) if count else 0


def hold_bytes(job: ImageJob, worker_bytes: int) -> int:
    """Unpacked blocks of the source that ingest may keep: those it needs, if there is room."""
    if output_mode(job.recipe, job.source) != "copy" or not job.info.packed:
        return 0
    pyramid = Pyramid("", "image", job.info, job.info.dtype, job.grid.ndim, 1)
    taken = WORKER_BASE_BYTES + _ingest_bytes(job) + _block_bytes(job, 0)
    room = max(0, worker_bytes - taken)
    reading = plan_reading(pyramid, room, job.source.seen)
    return min(room, HOLD_LIMIT_BYTES) if reading.together else reading.hold_bytes


def _ingest_bytes(job: ImageJob) -> int:
    """A shard's region, its encoded form, and the halves in 64 bits, of all channels."""
    shard, size = _shard_px(job), np.dtype(job.info.dtype).itemsize
    folding = job.source.seen.fold_bytes(size)
    return shard * (job.info.shape[1] * (2 * size + 8 + folding) + 2)


def _block_bytes(job: ImageJob, hold: int) -> int:
    """A block of the source while it is unpacked, those that are held, and what a source keeps."""
    if not job.info.packed or job.source.reader == "ome_zarr":
        return 0
    size = np.dtype(job.info.dtype).itemsize
    block = math.prod(job.info.chunks) * size
    return block + max(block, hold) + min(CACHE_BYTES, math.prod(job.info.shape) * size)


def _shard_px(job: ImageJob) -> int:
    """Pixels of one shard of the copy or the labels, one channel."""
    grid = job.grid
    shard = math.prod(min(n, m) for n, m in zip(grid.shape[-2:], (2048, 2048), strict=True))
    return shard * min(64, grid.shape[0]) if grid.ndim == 3 else shard


def _window_bytes(job: ImageJob, side: Sequence[int]) -> int:
    recipe, info = job.recipe, job.info
    channels, measured = len(job.channels), len(job.measured)
    halo = job.halo_px
    frame = info.shape[-len(side) :]
    window = math.prod(min(n, s + 2 * halo) for n, s in zip(frame, side, strict=True))
    size = np.dtype(info.dtype).itemsize
    pixels = channels * (2 * size + job.source.seen.fold_bytes(size)) + size * min(1, measured)
    if recipe.preprocess:
        pixels += 3 * max(4, final_dtype(recipe.preprocess, info.dtype).itemsize)
    if np.dtype(info.dtype).kind == "f":
        pixels += 2
    extra = 12.0 if recipe.postprocess.fill_holes else 0.0
    if recipe.merge is not None:
        # labels of regions 8, values and their squares 16 a channel, the gradient 24
        extra += max(0.0, 32.0 + 16.0 * channels - recipe.segment.peak_bytes_per_px())
    return int(window * (pixels + recipe.segment.peak_bytes_per_px() + extra))


def _gathering_bytes(job: ImageJob, side: Sequence[int]) -> int:
    """What the measuring pass takes for a tile."""
    gathered = job.recipe.gathered()
    if not gathered:
        return 0
    cut = replace(job, grid=replace(job.grid, side=tuple(side)))
    halo = widest_halo(cut, gathered)[-len(side) :]
    window = math.prod(s + 2 * h for s, h in zip(side, halo, strict=True))
    size = np.dtype(job.info.dtype).itemsize
    return int(window * (max(one.bytes_per_px for one in gathered) + 2 * size))
