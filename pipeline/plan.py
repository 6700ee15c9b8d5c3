"""The plan of a run: images, tiles, bytes, memory and time, before anything is spent.

A plan refuses what cannot fit. Its memory figures are checked against measured peaks by the
benchmark `tests/benchmarks/flat_memory.py`.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import psutil

from pipeline.admission import Admitted
from pipeline.companions import Companion, find_companions
from pipeline.earlier_labels import staged_labels
from pipeline.errors import MethodError, PlanError
from pipeline.grid import TileGrid
from pipeline.job import ImageJob, choose_channels, plan_id
from pipeline.labels_recipe import AnyRecipe
from pipeline.measurements.measure_round import widest_halo
from pipeline.output import OutputPlan
from pipeline.preprocess import final_dtype
from pipeline.pyramid import Pyramid
from pipeline.recipe import Recipe
from pipeline.run_folder import RunFolder
from pipeline.shared_blocks import HOLD_LIMIT_BYTES, plan_reading
from pipeline.sources import SourceSpec
from pipeline.sources.cache import CACHE_BYTES
from pipeline.sources.composed import open_parts
from pipeline.sources.seen import PLANES_AT_ONCE
from pipeline.storage import AnyPath, path_of

#: A worker process with all libraries loaded, measured on Linux with Python 3.11.
WORKER_BASE_BYTES = 330 * 2**20
#: Sides of a core that are tried, largest first.
SIDES = {2: (2048, 1536, 1024, 768, 512, 256, 128), 3: (256, 192, 128, 96, 64, 32)}
#: An image of at most this many pixels is done by one worker from beginning to end.
SMALL_PX = 2048 * 2048
#: What an image pyramid adds to level 0: 1/4 + 1/16 + ...
PYRAMID = 4 / 3


@dataclass(frozen=True, slots=True)
class Machine:
    """What the run may use.

    Parameters
    ----------
    workers : int
        Worker processes, one tile at a time each.
    bytes_per_worker : int
    """

    workers: int
    bytes_per_worker: int

    @classmethod
    def of(cls, recipe: AnyRecipe, workers: int | None, gpu_orders: int = 0) -> Machine:
        """This machine, as far as the recipe and the command allow.

        Orders for GPUs run beside the workers' own, and take their part of the memory.
        """
        count = workers or recipe.resources.workers or len(os.sched_getaffinity(0))
        gib = recipe.resources.memory_gib
        total = int(gib * 2**30) if gib else int(0.7 * psutil.virtual_memory().available)
        return cls(count, total // (count + gpu_orders))


@dataclass(frozen=True, slots=True)
class LabelPlan:
    """How one label image of an image is made, and where it is staged."""

    job: ImageJob
    output: OutputPlan


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """What one image will take.

    Parameters
    ----------
    parts : tuple of LabelPlan
        One a label, in the order in which they are made; all with the same tiles.
    fingerprint : str
    copy_bytes, label_bytes, probability_bytes, scratch_bytes : int
        Uncompressed upper bounds of what is written, for all labels together.
    peak_bytes : int
        Of a worker.
    cpu_seconds : float
        Rough.
    """

    parts: tuple[LabelPlan, ...]
    fingerprint: str
    copy_bytes: int
    label_bytes: int
    probability_bytes: int
    scratch_bytes: int
    peak_bytes: int
    cpu_seconds: float

    @property
    def job(self) -> ImageJob:
        """The first label's; name, source, tiles and identity are those of all."""
        return self.parts[0].job

    @property
    def output(self) -> OutputPlan:
        """The first label's; the staged group, its format and mode are those of all."""
        return self.parts[0].output

    @property
    def pixels(self) -> int:
        """Pixels of all frames, one channel."""
        return self.job.grid.frames * math.prod(self.job.grid.shape)

    @property
    def small(self) -> bool:
        """Whether one worker does it from beginning to end."""
        return self.pixels <= SMALL_PX

    @property
    def work(self) -> str:
        """Name of the unfinished work: scratch of other tile sizes must not be mixed in."""
        return f"{self.job.plan}-{'x'.join(map(str, self.job.grid.side))}"


def plan_image(
    item: Admitted,
    recipe: AnyRecipe,
    folder: RunFolder,
    machine: Machine,
    tile_px: int | None,
    dataset: str = "",
) -> ImagePlan:
    """Plan one image.

    Raises
    ------
    ImageError
        If the recipe does not apply to this image.
    PlanError
        If no tile fits into the memory.
    """
    spec, info = item.spec, item.info
    recipes = [part.for_image(info, spec.name) for part in recipe.parts]
    files = [find_companions(part.segment.companions(), spec) for part in recipes]
    # Copies of a file with the same times have one fingerprint, but are worked on apart.
    plan = plan_id(recipes, f"{spec.name}\0{item.fingerprint}", files, dataset)
    parts = _label_plans(plan, item, recipes, files, folder, tile_px)
    side = tile_px or min(_largest_side(part.job, machine) for part in parts)
    grid = TileGrid.of(info, recipes[0].ndim, side)
    work = folder.work_path(f"{plan}-{'x'.join(map(str, grid.side))}")
    parts = [
        replace(part, job=replace(part.job, grid=grid, work=str(own)))
        for part, own in zip(parts, _work_folders(work, recipes), strict=True)
    ]
    parts = [replace(part, job=_holding(part.job, machine)) for part in parts]
    peaks = [worker_peak_bytes(part.job) for part in parts]
    peak = max(peaks)
    if peak > machine.bytes_per_worker:
        job = parts[peaks.index(peak)].job
        fixed = job.recipe.extra_bytes(job.context)
        part = f" ({_gib(fixed)} of it with tiles of any size)" if fixed else ""
        raise PlanError(
            f"{spec.name}: a tile of {side} px takes {_gib(peak)} of memory in a worker{part}, "
            f"{_gib(machine.bytes_per_worker)} are allowed. Choose a smaller --tile, fewer "
            "--workers, or raise resources.memory_gib."
        )
    return _complete(tuple(parts), item, peak)


def _work_folders(work: AnyPath, recipes: Sequence[Recipe]) -> list[AnyPath]:
    """Of one label the folder itself, of several one a label."""
    return [work] if len(recipes) == 1 else [work / recipe.label for recipe in recipes]


def _label_plans(
    plan: str,
    item: Admitted,
    recipes: Sequence[Recipe],
    files: Sequence[Mapping[str, Companion]],
    folder: RunFolder,
    tile_px: int | None,
) -> list[LabelPlan]:
    """The jobs and outputs of all labels, with tiles of the largest side."""
    spec, info = item.spec, item.info
    staging = folder.staging_path(plan)
    parts: list[LabelPlan] = []
    earlier: tuple[str, ...] = ()
    for recipe, companions in zip(recipes, files, strict=True):
        mode = output_mode(recipe, spec)
        in_place = mode == "in_place"
        staged = path_of(spec.path) / f".tilewright-{plan[:12]}" if in_place else None
        root = staged or staging / "image.ome.zarr"
        job = ImageJob(
            plan,
            spec.name,
            spec,
            info,
            recipe,
            choose_channels(recipe.source.channels, info, spec.name),
            choose_channels(recipe.measure.channels, info, spec.name),
            TileGrid.of(info, recipe.ndim, tile_px or SIDES[recipe.ndim][0]),
            "",
            {**companions, **staged_labels(root, recipe.segment.earlier_labels(), info)},
        )
        recipe.check(job.context)
        recipe.measure.check(job)
        table = staging / ("objects.parquet" if len(recipes) == 1 else f"{recipe.label}.parquet")
        zarr_format = _format(spec) if in_place else 3
        output = OutputPlan(root, table, recipe, info, spec, mode, zarr_format, earlier)
        earlier += output.listed
        parts.append(LabelPlan(job, output))
    return parts


def _complete(parts: tuple[LabelPlan, ...], item: Admitted, peak: int) -> ImagePlan:
    first = parts[0]
    pixels = first.job.grid.frames * math.prod(first.job.grid.shape)
    size = np.dtype(item.info.dtype).itemsize
    factor = PYRAMID if first.job.recipe.output.pyramid else 1.0
    recipes = [part.job.recipe for part in parts]
    return ImagePlan(
        parts,
        item.fingerprint,
        int(pixels * item.info.shape[1] * size * factor) if first.output.mode == "copy" else 0,
        int(pixels * 4 * factor) * sum(len(part.output.listed) for part in parts),
        int(pixels * 4 * sum(map(probability_count, recipes)) * factor),
        int(pixels * sum(map(_scratch_bytes_per_px, recipes))),
        peak,
        pixels / 1e6 * sum(seconds_per_megapixel(part.job) for part in parts),
    )


def probability_count(recipe: Recipe) -> int:
    """Number of classes whose probability is written for every pixel."""
    return len(recipe.segment.classes()) if recipe.segment.has_probabilities() else 0


def _scratch_bytes_per_px(recipe: Recipe) -> float:
    merged = 4.0 if recipe.merge is not None else 0.0
    return recipe.segment.scratch_bytes_per_px() + 4 * probability_count(recipe) + merged


def output_mode(recipe: Recipe, spec: SourceSpec) -> Literal["copy", "none", "in_place"]:
    """Whether the image is copied: by default just where it had to be converted."""
    wanted = recipe.output.image
    is_zarr = spec.reader == "ome_zarr"
    if wanted == "in_place" and not is_zarr:
        raise MethodError(
            spec.name,
            "output.image is in_place, but only an OME-Zarr can take labels in",
            "Use `copy` or `none`.",
        )
    if wanted == "in_place" and spec.seen.reshapes:
        raise MethodError(
            spec.name,
            "output.image is in_place, and the labels of a projection or of some planes do not fit "
            "the image",
            "Use `copy` or `none`.",
        )
    return wanted or ("none" if is_zarr and not spec.seen.reshapes else "copy")


def worker_peak_bytes(job: ImageJob) -> int:
    """Predicted peak of a worker, libraries included."""
    grid = job.grid
    tile = _window_bytes(job, grid.side) + job.recipe.extra_bytes(job.context)
    tile = max(tile, _gathering_bytes(job, grid.side))
    small = grid.frames * math.prod(grid.shape) <= SMALL_PX
    soft = probability_count(job.recipe)
    merged = job.recipe.merge is not None
    kept = grid.frames * math.prod(grid.shape) * 4 * (1 + soft + merged) if small else 0
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


def _holding(job: ImageJob, machine: Machine) -> ImageJob:
    return replace(job, hold_bytes=hold_bytes(job, machine.bytes_per_worker))


def hold_bytes(job: ImageJob, worker_bytes: int) -> int:
    """Unpacked blocks of the source that ingest may keep: those it needs, if there is room."""
    if output_mode(job.recipe, job.source) != "copy" or not job.info.packed:
        return 0
    pyramid = Pyramid("", "image", job.info, job.info.dtype, job.grid.ndim, 1)
    taken = WORKER_BASE_BYTES + _ingest_bytes(job) + _block_bytes(job, 0)
    room = max(0, worker_bytes - taken)
    reading = plan_reading(pyramid, room)
    return min(room, HOLD_LIMIT_BYTES) if reading.together else reading.hold_bytes


def _ingest_bytes(job: ImageJob) -> int:
    """A shard's region, its encoded form, and the halves in 64 bits, of all channels."""
    shard, size = _shard_px(job), np.dtype(job.info.dtype).itemsize
    held = size * _planes_held(job)
    return shard * (job.info.shape[1] * (2 * size + 8 + held) + 2)


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
    pixels = channels * size * (2 + _planes_held(job)) + size * min(1, measured)
    if recipe.preprocess:
        pixels += 3 * max(4, final_dtype(recipe.preprocess, info.dtype).itemsize)
    if np.dtype(info.dtype).kind == "f":
        pixels += 2
    extra = 12.0 if recipe.postprocess.fill_holes else 0.0
    if recipe.merge is not None:
        # labels of regions 8, values and their squares 16 a channel, the gradient 24
        extra += max(0.0, 32.0 + 16.0 * channels - recipe.segment.peak_bytes_per_px())
    return int(window * (pixels + recipe.segment.peak_bytes_per_px() + extra))


def _planes_held(job: ImageJob) -> int:
    """Planes that are held beside the one that is seen, where a stack is projected."""
    return PLANES_AT_ONCE if job.source.seen.project else 0


def _gathering_bytes(job: ImageJob, side: Sequence[int]) -> int:
    """What the measuring pass takes for a tile."""
    gathered = job.recipe.gathered()
    if not gathered:
        return 0
    halo = widest_halo(job, gathered)[-len(side) :]
    window = math.prod(s + 2 * h for s, h in zip(side, halo, strict=True))
    size = np.dtype(job.info.dtype).itemsize
    return int(window * (max(one.bytes_per_px for one in gathered) + 2 * size))


def _largest_side(job: ImageJob, machine: Machine) -> int:
    recipe = job.recipe
    if recipe.resources.tile_px:
        return recipe.resources.tile_px
    room = machine.bytes_per_worker - WORKER_BASE_BYTES - recipe.extra_bytes(job.context)
    for side in SIDES[recipe.ndim]:
        sides = tuple(min(side, n) for n in job.grid.shape)
        measuring = _gathering_bytes(job, sides)
        if max(_window_bytes(job, (side,) * recipe.ndim), measuring) <= 0.8 * room:
            return side
    return SIDES[recipe.ndim][-1]


def _format(spec: SourceSpec) -> Literal[2, 3]:
    return 3 if (path_of(spec.path) / "zarr.json").is_file() else 2


def seconds_per_megapixel(job: ImageJob) -> float:
    """CPU seconds of reading, writing, filtering and segmenting a megapixel; rough."""
    filters = 0.03 * len(job.recipe.preprocess)
    copied = output_mode(job.recipe, job.source) == "copy"
    copy = 0.03 * job.info.shape[1] if copied else 0.0
    soft = 0.06 * probability_count(job.recipe)
    quality = 0.015 * job.info.shape[1] if job.recipe.measure.quality else 0.0
    # Final labels are looked up and numbered once for all that is measured.
    more = job.recipe.gathered()
    measured = sum((one.cpu_seconds_per_megapixel(job) for one in more), 0.03 if more else 0.0)
    own = job.recipe.segment.cpu_seconds_per_megapixel()
    return 0.06 + filters + copy + soft + quality + measured + own


def check_disk(plans: Sequence[ImagePlan], folder: RunFolder) -> None:
    """Refuse a run that could fill the disk.

    Compression makes labels at least ten times smaller in practice; the image and probabilities
    are counted in full, the latter in scratch, too.
    """
    place = folder.root if isinstance(folder.root, Path) else folder.local
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    need = 0
    if isinstance(folder.work, Path):
        need += max(
            ((p.scratch_bytes + p.label_bytes) // 4 + p.probability_bytes for p in plans), default=0
        )
    if isinstance(folder.root, Path):  # stores have no end
        need += sum(p.copy_bytes + p.probability_bytes + p.label_bytes // 10 for p in plans)
    if need > free:
        raise PlanError(
            f"{folder.root}: the run may write {_gib(need)}, {_gib(free)} are free. Free some "
            "space, choose another disk, or use `output: {image: none}` to leave the images out."
        )


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"
