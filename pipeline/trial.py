"""Running an array through the real engine, untiled or cut and shuffled, in one process.

For tests of methods, see `pipeline.conformance`, and for trying a method on an array.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tifffile
from numpy.typing import NDArray

from pipeline.companions import companion_path, find_companions
from pipeline.engine import Published
from pipeline.errors import ConformanceError
from pipeline.files import digest, write_atomically
from pipeline.graph.tables import StoredGraph
from pipeline.grid import TileGrid
from pipeline.image import AXES, ImageInfo
from pipeline.image_run import engines, run_all
from pipeline.job import ImageJob, check_dtype, plan_id
from pipeline.labels_recipe import AnyRecipe
from pipeline.ledger import MemoryLedger
from pipeline.orders import Order, Receipt
from pipeline.output import OutputPlan
from pipeline.plan import LabelPlan, checked_job
from pipeline.pyramid import Pyramid, open_level
from pipeline.recipe import Recipe
from pipeline.sources import SourceSpec, open_source
from pipeline.sources.focus import in_focus
from pipeline.steps import Executor, perform_here

Pixels = NDArray[np.generic]

#: Share of the orders that are performed twice when orders are shuffled.
REPEATED = 0.25


@dataclass(frozen=True, slots=True)
class Result:
    """What the engine published of an image.

    Parameters
    ----------
    labels : ndarray of shape (T, Z, Y, X), uint32 or uint64
    table : pyarrow.Table
        One row an object.
    digest, table_digest, quality_digest : str
    certificate : dict
        As the engine reports them.
    probabilities : ndarray of shape (T, K, Z, Y, X), float32, or None
        Of the K classes, where the recipe asks for them.
    graph : StoredGraph or None
        The graph that regions were merged on, where the recipe has `merge:`.
    fragments : ndarray of shape (T, Z, Y, X), uint32, or None
        What they were merged from.
    """

    labels: NDArray[np.unsignedinteger]
    table: pa.Table
    digest: str
    table_digest: str
    quality_digest: str
    certificate: dict[str, Any]
    probabilities: NDArray[np.float32] | None = None
    graph: StoredGraph | None = None
    fragments: NDArray[np.uint32] | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """How an image is cut, and how the work on it is spread.

    Parameters
    ----------
    side : int or tuple of int
        Of a tile in px, the same on every axis or one an axis.
    order : int
        Seed of the order in which orders are performed and answered; 0: as they come.
    batch_tiles : int
        Tiles an order.
    """

    side: int | tuple[int, ...]
    order: int = 0
    batch_tiles: int = 1

    def __str__(self) -> str:
        order = f"shuffled with seed {self.order}" if self.order else "in order"
        return f"tiles of {self.side} px, {order}, {self.batch_tiles} tiles a batch"


def run_untiled(recipe: Recipe, image: Pixels, folder: Path) -> Result:
    """Segment an image as one tile a frame.

    Raises
    ------
    ImageError
        If the recipe does not apply to the image.
    """
    side = max(1, *image.shape[-recipe.ndim :])
    return run_tiled(recipe, image, folder, Cut(side))


def run_tiled(recipe: Recipe, image: Pixels, folder: Path, cut: Cut) -> Result:
    """Segment an image cut into tiles.

    Raises
    ------
    ImageError
        If the recipe does not apply to the image.
    """
    (result,) = run_labels(recipe, image, folder, cut).values()
    return result


def run_labels(recipe: AnyRecipe, image: Pixels, folder: Path, cut: Cut) -> dict[str, Result]:
    """Make all labels of a recipe of an image cut into tiles; by their names, in their order.

    Raises
    ------
    ImageError
        If the recipe does not apply to the image.
    """
    space = Path(tempfile.mkdtemp(dir=folder, prefix="run-"))
    try:
        parts = plan_labels(recipe, save_array(image, folder), cut.side, space)
        execute = perform_shuffled(cut.order) if cut.order else perform_here
        results = run_all(engines(parts, execute, MemoryLedger(), cut.batch_tiles), {})
        return {
            part.job.recipe.label: _result(part.output, done)
            for part, done in zip(parts, results, strict=True)
        }
    finally:
        shutil.rmtree(space)


def _result(output: OutputPlan, done: Published) -> Result:
    """What was staged of one label."""
    return Result(
        _labels(output.labels(done.count)),
        pq.read_table(output.table),
        done.digest,
        done.table_digest,
        done.quality_digest,
        done.certificate,
        _probabilities(output),
        StoredGraph.open(output.graph) if output.recipe.merge is not None else None,
        None if output.fragments is None else _labels(output.fragments),
    )


def _labels(pyramid: Pyramid) -> NDArray[Any]:
    t, _, z, y, x = pyramid.info.shape
    return np.asarray(open_level(pyramid.path, 0)[...]).reshape(t, z, y, x)


def _probabilities(output: OutputPlan) -> NDArray[np.float32] | None:
    pyramid = output.probabilities
    if pyramid is None:
        return None
    stored = np.asarray(open_level(pyramid.path, 0)[...])
    return np.asarray(stored.reshape(pyramid.shape(0)), np.float32)


def perform_shuffled(seed: int) -> Executor:
    """An executor that performs and answers in random orders, and performs some orders twice.

    That is what a cluster does to a run: workers overtake each other, and lost work is repeated.
    """
    generator = np.random.default_rng(seed)

    def execute(orders: Iterable[Order]) -> Iterator[tuple[Order, Receipt | BaseException]]:
        waiting = list(orders)
        twice = np.flatnonzero(generator.random(len(waiting)) < REPEATED)
        receipts: dict[int, Receipt] = {}
        for k in generator.permutation(np.concatenate([np.arange(len(waiting)), twice])):
            receipt = waiting[k].perform()
            if k in receipts and not _same_receipt(receipts[k], receipt):
                raise ConformanceError(
                    f"{type(waiting[k]).__name__} of tiles {waiting[k].numbers} gave another "
                    "result when it was repeated; a round must be a pure function"
                )
            receipts[k] = receipt
        for k in generator.permutation(len(waiting)):
            yield waiting[k], receipts[k]

    return execute


def save_array(image: Pixels, folder: Path) -> SourceSpec:
    """Make a file of the image, named after its content: open sources are cached by path."""
    five = np.ascontiguousarray(image).reshape((1,) * (5 - image.ndim) + image.shape)
    kind = f"{five.dtype.str} {five.shape}"
    path = folder / digest(kind.encode(), five.tobytes())
    if image.shape[-1] == 1:
        return _saved_zarr(five, path.with_suffix(".ome.zarr"))
    path = path.with_suffix(".tif")
    if not path.exists():
        tifffile.imwrite(path, five, metadata={"axes": AXES.upper()}, photometric="minisblack")
    return SourceSpec("tiff", str(path), "image")


def copy_companions(recipe: Recipe, image: Path, array: SourceSpec) -> None:
    """Copy what lies beside an image to where it is looked for beside an array's file."""
    for pattern in recipe.segment.companions().values():
        there = companion_path(pattern, SourceSpec("", str(image), image.name))
        here = companion_path(pattern, array)
        if here != there:
            write_atomically(here, there.read_bytes())


def plan_array(
    recipe: Recipe, spec: SourceSpec, side: int | tuple[int, ...], space: Path
) -> ImageJob:
    """The request for an image, its frames cut into tiles of any size; `space` is for its work."""
    (part,) = plan_labels(recipe, spec, side, space)
    return part.job


def plan_labels(
    recipe: AnyRecipe, spec: SourceSpec, side: int | tuple[int, ...], space: Path
) -> list[LabelPlan]:
    """The requests for all labels of an image, cut as `plan_array` has it."""
    spec = in_focus(replace(spec, seen=recipe.source.seen()))
    with open_source(spec) as source:
        info, fingerprint = source.info, source.fingerprint()
    check_dtype(info, spec.name)
    recipes = [part.for_image(info, spec.name) for part in recipe.parts]
    grid = TileGrid.of(info, recipe.ndim, max(info.shape))
    sides = (side,) * grid.ndim if isinstance(side, int) else side
    sides = tuple(min(s, n) for s, n in zip(sides, grid.shape, strict=True))
    files = [find_companions(part.segment.companions(), spec) for part in recipes]
    plan = plan_id(recipes, fingerprint, files)
    found: list[LabelPlan] = []
    earlier: tuple[str, ...] = ()
    for part, companions in zip(recipes, files, strict=True):
        root = space / "staged"
        job = checked_job(plan, spec, info, part, replace(grid, side=sides), companions, root)
        job = replace(job, work=str(space / "work"))
        table = space / f"{part.label}.parquet"
        output = OutputPlan(root, table, part, info, spec, "none", earlier=earlier)
        earlier += output.listed
        found.append(LabelPlan(job, output))
    return found


def _same_receipt(a: Receipt, b: Receipt) -> bool:
    return (
        a.digests == b.digests
        and a.record.keys() == b.record.keys()
        and all(a.record[key].tobytes() == b.record[key].tobytes() for key in a.record)
    )


def _saved_zarr(five: Pixels, path: Path) -> SourceSpec:
    """An OME-Zarr, for tifffile writes pages of width 1 as pages of height 1."""
    t, c, z, y, x = five.shape
    channels = tuple(str(i) for i in range(c))
    info = ImageInfo(
        (t, c, z, y, x), five.dtype.name, AXES, channels, (None,) * 3, None, (1, 1, z, y, x)
    )
    if not path.exists():
        pyramid = Pyramid(str(path), "image", info, info.dtype, 3, 1)
        pyramid.create()
        open_level(pyramid.path, 0)[...] = five
        pyramid.write_metadata({})
    return SourceSpec("ome_zarr", str(path), "image")
