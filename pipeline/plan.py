"""The plan of a run: images, tiles, bytes, memory and time, before anything is spent.

A plan refuses what cannot fit into memory; `pipeline.disk_space` refuses what no disk can hold.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import psutil

from pipeline.admission import Admitted
from pipeline.companions import Companion, find_companions
from pipeline.cpu_seconds import seconds_per_megapixel
from pipeline.earlier_labels import staged_labels
from pipeline.errors import MethodError, PlanError
from pipeline.grid import TileGrid
from pipeline.image import ImageInfo
from pipeline.job import ImageJob, choose_channels, plan_id
from pipeline.labels_recipe import AnyRecipe
from pipeline.lengths import in_um
from pipeline.measurements.measure_round import widest_halo
from pipeline.output import OutputPlan, output_mode
from pipeline.recipe import Recipe
from pipeline.run_folder import RunFolder
from pipeline.sources import SourceSpec
from pipeline.storage import AnyPath, path_of
from pipeline.worker_memory import SIDES, hold_bytes, largest_side, worker_peak_bytes

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
        return self.job.grid.pixels

    @property
    def small(self) -> bool:
        """Whether one worker does it from beginning to end."""
        return _is_small(self.job.grid)

    @property
    def work(self) -> str:
        """Name of the unfinished work: scratch of other tile sizes must not be mixed in."""
        return f"{self.job.plan}-{'x'.join(map(str, self.job.grid.side))}"


def _is_small(grid: TileGrid) -> bool:
    return grid.pixels <= SMALL_PX


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
    spec, info, room = item.spec, item.info, machine.bytes_per_worker
    recipes = [part.for_image(info, spec.name) for part in recipe.parts]
    files = [find_companions(part.segment.companions(), spec) for part in recipes]
    # Copies of a file with the same times have one fingerprint, but are worked on apart.
    plan = plan_id(recipes, f"{spec.name}\0{item.fingerprint}", files, dataset)
    parts = _label_plans(plan, item, recipes, files, folder, tile_px)
    side = tile_px or min(largest_side(part.job, room) for part in parts)
    grid = TileGrid.of(info, recipes[0].ndim, side)
    work = folder.work_path(f"{plan}-{'x'.join(map(str, grid.side))}")
    jobs = [
        replace(part.job, grid=grid, work=str(own))
        for part, own in zip(parts, _work_folders(work, recipes), strict=True)
    ]
    jobs = [replace(job, hold_bytes=hold_bytes(job, room)) for job in jobs]
    parts = [replace(part, job=job) for part, job in zip(parts, jobs, strict=True)]
    peaks = [worker_peak_bytes(job, _is_small(grid)) for job in jobs]
    peak = max(peaks)
    if peak > room:
        job = jobs[peaks.index(peak)]
        fixed = job.recipe.extra_bytes(job.context)
        part = f" ({in_gib(fixed)} of it with tiles of any size)" if fixed else ""
        _refuse_lengths(job, recipe, peak, room)
        raise PlanError(
            f"{spec.name}: a tile of {side} px takes {in_gib(peak)} of memory in a worker{part}, "
            f"{in_gib(room)} are allowed. Choose a smaller --tile, fewer "
            "--workers, or raise resources.memory_gib."
        )
    return _complete(tuple(parts), item, peak)


def _refuse_lengths(job: ImageJob, recipe: AnyRecipe, peak: int, room: int) -> None:
    """Raise MethodError if lengths in um are too wide for the pixels of this one image."""
    halo = max(job.halo_px, *widest_halo(job, job.recipe.gathered()))
    if halo > max(job.grid.side) and any(in_um(part) for part in recipe.parts):
        sizes = " x ".join(f"{size:g}" for size in job.frame_pixel_size_um)
        raise MethodError(
            job.name,
            f"with pixels of {sizes} um, the lengths in um reach {halo} px around a tile, which "
            f"takes {in_gib(peak)} of memory in a worker, and {in_gib(room)} are allowed",
            "Choose shorter lengths, or say the right size of a pixel in the recipe: "
            "source.pixel_size_um.",
        )


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
        grid = TileGrid.of(info, recipe.ndim, tile_px or SIDES[recipe.ndim][0])
        job = checked_job(plan, spec, info, recipe, grid, companions, root)
        table = staging / ("objects.parquet" if len(recipes) == 1 else f"{recipe.label}.parquet")
        zarr_format = _format(spec) if in_place else 3
        output = OutputPlan(root, table, recipe, info, spec, mode, zarr_format, earlier)
        earlier += output.listed
        parts.append(LabelPlan(job, output))
    return parts


def checked_job(
    plan: str,
    spec: SourceSpec,
    info: ImageInfo,
    recipe: Recipe,
    grid: TileGrid,
    companions: Mapping[str, Companion],
    staged: AnyPath,
) -> ImageJob:
    """The job of one label, which has no place for its work yet.

    Parameters
    ----------
    plan, spec, info, recipe, grid, companions
        See `ImageJob`.
    staged : Path or StorePath
        The group where earlier labels of the image are staged.

    Raises
    ------
    MethodError
        If the recipe does not apply to this image.
    """
    job = ImageJob(
        plan,
        spec.name,
        spec,
        info,
        recipe,
        choose_channels(recipe.source.channels, info, spec.name),
        choose_channels(recipe.measure.channels, info, spec.name),
        grid,
        "",
        {**companions, **staged_labels(staged, recipe.segment.earlier_labels(), info)},
    )
    recipe.check(job.context)
    recipe.measure.check(job)
    return job


def _complete(parts: tuple[LabelPlan, ...], item: Admitted, peak: int) -> ImagePlan:
    first = parts[0]
    pixels = first.job.grid.pixels
    size = np.dtype(item.info.dtype).itemsize
    factor = PYRAMID if first.job.recipe.output.pyramid else 1.0
    recipes = [part.job.recipe for part in parts]
    return ImagePlan(
        parts,
        item.fingerprint,
        int(pixels * item.info.shape[1] * size * factor) if first.output.mode == "copy" else 0,
        int(pixels * 4 * factor) * sum(len(part.output.listed) for part in parts),
        int(pixels * 4 * sum(recipe.probability_count for recipe in recipes) * factor),
        int(pixels * sum(map(_scratch_bytes_per_px, recipes))),
        peak,
        pixels / 1e6 * sum(seconds_per_megapixel(part.job) for part in parts),
    )


def _scratch_bytes_per_px(recipe: Recipe) -> float:
    merged = 4.0 if recipe.merge is not None else 0.0
    return recipe.segment.scratch_bytes_per_px() + 4 * recipe.probability_count + merged


def _format(spec: SourceSpec) -> Literal[2, 3]:
    return 3 if (path_of(spec.path) / "zarr.json").is_file() else 2


def in_gib(size: float) -> str:
    """A number of bytes for people."""
    return f"{size / 2**30:.2f} GiB"
