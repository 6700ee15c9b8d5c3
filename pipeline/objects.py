"""The object table: one row an object and frame, from sums that its pieces bring.

Sums are whole numbers until the last step, so a row does not depend on how the object was cut.
Definitions are those of `skimage.measure.regionprops`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.grid import TileGrid
from pipeline.intensities import SAFE, channel_columns
from pipeline.job import ImageJob
from pipeline.join import Pieces
from pipeline.joined import Joined
from pipeline.kernels.measure import SECOND_PAIRS, SUMS
from pipeline.label_keys import parent_column
from pipeline.measurements.bands import FamilyBands, Measured
from pipeline.measurements.rows import Column, Rows, concatenate, select
from pipeline.pieces import fact_key
from pipeline.shape import axes_and_direction, eccentricity, equivalent_diameter


def object_table(
    job: ImageJob,
    pieces: Pieces,
    joined: Joined,
    ranges: Sequence[tuple[float, float]],
    measured: Measured | None = None,
) -> Iterator[pa.Table]:
    """Rows in the order of the objects' first pixels, one table a band of tiles.

    Only objects that reach over several bands are held in memory together.

    Parameters
    ----------
    job : ImageJob
    pieces : callable
        Record of a tile, as `describe_pieces` makes it.
    joined : Joined
    ranges : sequence of (low, high)
        Value range of each measured channel, as `TileView.raw_range` gives it.
    measured : callable, optional
        Record of a tile that the measuring pass left; needed where the recipe asks for one.
    """
    bands = job.grid.bands()
    first, last = _band_span(joined, bands)
    wide = last > first
    over = [_pieces_rows(job, pieces(n), n, joined, wide) for band in bands for n in band]
    held = _whole_rows(over)
    more = []
    if measured is not None:
        families = job.recipe.measure.families()
        more = [FamilyBands.of(job, family, measured, bands, first) for family in families]
    for number, band in enumerate(bands):
        inside = _whole_rows([_pieces_rows(job, pieces(n), n, joined, ~wide) for n in band])
        begun = select(held, first[held["label"].astype(np.int64)] == number)
        rows = concatenate([inside, begun])
        if len(rows["label"]):
            # Families want labels in their order, which need not be that of first pixels.
            rows = select(rows, np.argsort(rows["label"]))
            table = _finish(job, rows, ranges, [one.rows(number) for one in more])
            yield table.take(np.argsort(rows["anchor"]))


def class_table(
    job: ImageJob, pieces: Pieces, joined: Joined, ranges: Sequence[tuple[float, float]]
) -> Iterator[pa.Table]:
    """Rows of a semantic map: one a class and frame, in this order; one table a frame.

    Parameters
    ----------
    job, pieces, joined, ranges
        As for `object_table`; of every class that occurs in the frame there is a row.
    """
    everything = np.ones(joined.largest + 1, np.bool_)
    for _, tiles in itertools.groupby(job.grid.tiles(), lambda tile: tile.frame):
        held = _no_rows(job)
        for tile in tiles:
            rows = _pieces_rows(job, pieces(tile.number), tile.number, joined, everything)
            held = _whole_rows([held, select(rows, rows["area"] > 0)])
        if len(held["label"]):
            yield _finish(job, held, ranges)


def empty_table(job: ImageJob) -> pa.Table:
    """The table of an image without objects: the same columns, no rows."""
    ranges = [(0.0, 1.0)] * len(job.measured)
    more = [family.no_rows(job) for family in job.recipe.measure.families()]
    return _finish(job, _no_rows(job), ranges, more)


def first_bands(grid: TileGrid, joined: Joined) -> NDArray[np.int64]:
    """Band of the first pixel of every label."""
    return _band_span(joined, grid.bands())[0]


def _band_span(
    joined: Joined, bands: list[list[int]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last band of every label; entry 0 is the background."""
    band_of_tile = np.concatenate([np.full(len(band), i) for i, band in enumerate(bands)])
    band = np.repeat(band_of_tile, np.diff(joined.offsets))
    first = np.full(joined.largest + 1, len(bands), np.int64)
    last = np.full(joined.largest + 1, -1, np.int64)
    np.minimum.at(first, joined.labels, band)
    np.maximum.at(last, joined.labels, band)
    return first, last


def _pieces_rows(
    job: ImageJob,
    record: Mapping[str, Column],
    number: int,
    joined: Joined,
    chosen: NDArray[np.bool_],
) -> Rows:
    """Sums of a tile's pieces whose final label is chosen, with their origin in the frame."""
    label = joined.labels[joined.offsets[number] : joined.offsets[number + 1]]
    keep = (label > 0) & chosen[label]
    tile = job.grid.tile(number)
    origin = np.array((0, *tile.core.start)[-3:], np.int64)
    rows: Rows = {
        "label": label[keep].astype(np.uint64),
        "frame": np.full(int(keep.sum()), tile.frame, np.int64),
        "origin": np.broadcast_to(origin, (int(keep.sum()), 3)),
    }
    for key in ("anchor", "area", "start", "stop", "sums", "seconds"):
        rows[key] = record[key][keep]
    for name in job.recipe.fact_columns():
        rows[fact_key(name)] = record[fact_key(name)][keep]
    for i, channel in enumerate(job.measured):
        rows[f"channel.{i}"] = record[f"channel.{channel}"][keep]
    return rows


def _no_rows(job: ImageJob) -> Rows:
    shapes = {"origin": 3, "start": 3, "stop": 3, "sums": 3, "seconds": 6}
    rows: Rows = {key: np.empty((0, n), np.int64) for key, n in shapes.items()}
    rows.update({key: np.empty(0, np.int64) for key in ("frame", "anchor", "area")})
    channels = range(len(job.measured))
    rows.update({f"channel.{i}": np.empty((0, len(SUMS)), np.int64) for i in channels})
    facts = job.recipe.fact_columns().items()
    rows.update({fact_key(name): np.empty(0, dtype) for name, dtype in facts})
    rows["label"] = np.empty(0, np.uint64)
    return rows


def _whole_rows(parts: Sequence[Rows]) -> Rows:
    """Add up the pieces of each label; `sums` and `seconds` then count from `start`.

    Facts are those of the piece that holds the object's first pixel: filled holes bring none.
    """
    rows = concatenate(parts)
    if len(rows["label"]) == 0:
        return rows
    rows = select(rows, np.lexsort((rows["anchor"], rows["label"])))
    heads = np.flatnonzero(np.diff(rows["label"].astype(np.int64), prepend=-1))
    counts = np.diff(np.append(heads, len(rows["label"])))
    start = np.minimum.reduceat(rows["start"], heads)
    stop = np.maximum.reduceat(rows["stop"], heads)
    area = np.add.reduceat(rows["area"], heads)
    extent = float((stop - start).max())
    exact = object if float(area.max()) * extent**2 > SAFE else np.int64
    shift = (rows["origin"] - np.repeat(start, counts, axis=0)).astype(exact)
    sums, seconds = _shifted(rows, shift, exact)
    whole: Rows = {
        "label": rows["label"][heads],
        "frame": rows["frame"][heads],
        "anchor": rows["anchor"][heads],
        "origin": start,
        "area": area,
        "start": start,
        "stop": stop,
        "sums": np.add.reduceat(sums, heads),
        "seconds": np.add.reduceat(seconds, heads),
    }
    for key in rows:
        if key.startswith("channel."):
            whole[key] = _whole_channel(rows[key], heads)
        elif key.startswith("fact."):
            whole[key] = rows[key][heads]
    return whole


def _shifted(rows: Rows, shift: Column, exact: type) -> tuple[Column, Column]:
    """Sums of (x + d) and (x + d)(y + e) from those of x and x y."""
    n: Column = rows["area"].astype(exact)
    s: Column = rows["sums"].astype(exact)
    sums = s + n[:, None] * shift
    seconds: Column = rows["seconds"].astype(exact)
    for k, (i, j) in enumerate(SECOND_PAIRS):
        seconds[:, k] += (
            shift[:, i] * s[:, j] + shift[:, j] * s[:, i] + n * shift[:, i] * shift[:, j]
        )
    return sums, seconds


def _whole_channel(channel: Column, heads: NDArray[np.int64]) -> Column:
    added = np.add.reduceat(channel, heads)
    added[:, 1] = np.minimum.reduceat(channel[:, 1], heads)
    added[:, 2] = np.maximum.reduceat(channel[:, 2], heads)
    return added


def _finish(
    job: ImageJob, rows: Rows, ranges: Sequence[tuple[float, float]], more: Sequence[Rows] = ()
) -> pa.Table:
    """The table of whole objects; `more` are the rows of the recipe's families of measurements."""
    columns: dict[str, Any] = {
        "image": pa.array([job.name] * len(rows["label"]), pa.string()),
        "label": rows["label"],
        **_class_column(job, rows["label"]),
        **_parent_column(job, rows["label"]),
        **_frame_columns(job, rows["frame"]),
        **_place_columns(job, rows),
        **_shape_columns(job, rows),
        "touches_border": _at_border(job, rows),
        **{name: rows[fact_key(name)] for name in job.recipe.fact_columns()},
    }
    for i, channel in enumerate(job.measured):
        dtype = np.dtype(job.info.dtype)
        for key, column in channel_columns(rows[f"channel.{i}"], dtype, ranges[i]).items():
            columns[f"{key}_{job.info.channels[channel]}"] = column
    known = {**columns, "ranges": ranges}
    for family, found in zip(job.recipe.measure.families() if more else (), more, strict=True):
        columns.update(family.finish(job, found, known))
    return pa.table(columns)


def _class_column(job: ImageJob, label: Column) -> dict[str, Any]:
    """Names of the classes, where labels are classes."""
    names = [c.name for c in job.recipe.segment.classes()]
    return {"class": pa.array([names[int(i) - 1] for i in label], pa.string())} if names else {}


def _parent_column(job: ImageJob, label: Column) -> dict[str, Column]:
    """The object of an earlier label that each was made from: it has its number."""
    parent = job.recipe.parent_label
    return {} if parent is None else {parent_column(parent): label}


def _frame_columns(job: ImageJob, frame: Column) -> dict[str, Column]:
    if job.grid.ndim == 3:
        return {"t": frame.astype(np.int32)}
    t, z = np.divmod(frame.astype(np.int32), np.int32(job.info.shape[2]))
    return {"t": t, "z": z}


def _place_columns(job: ImageJob, rows: Rows) -> dict[str, Column]:
    columns: dict[str, Column] = {"area_px": rows["area"].astype(np.int64)}
    sizes = job.frame_pixel_size_um
    unit = "area_um2" if job.grid.ndim == 2 else "volume_um3"
    columns[unit] = rows["area"].astype(np.float64) * np.prod(sizes)
    mean = (rows["sums"] / np.maximum(rows["area"], 1)[:, None]).astype(np.float64)
    for axis, size in zip(_axes(job), sizes, strict=True):
        i = "zyx".index(axis)
        columns[f"bbox_{axis}_start_px"] = rows["start"][:, i].astype(np.int64)
        columns[f"bbox_{axis}_stop_px"] = rows["stop"][:, i].astype(np.int64)
        centroid = mean[:, i] + rows["start"][:, i]
        columns[f"centroid_{axis}_px"] = centroid
        columns[f"centroid_{axis}_um"] = centroid * size
    return columns


def _shape_columns(job: ImageJob, rows: Rows) -> dict[str, Column]:
    area = np.maximum(rows["area"], 1)
    mean = (rows["sums"] / area[:, None]).astype(np.float64)
    ndim = job.grid.ndim
    covariance = np.zeros((len(area), 3, 3))
    for k, (i, j) in enumerate(SECOND_PAIRS):
        value = (rows["seconds"][:, k] / area).astype(np.float64) - mean[:, i] * mean[:, j]
        covariance[:, i, j] = covariance[:, j, i] = value
    covariance = covariance[:, 3 - ndim :, 3 - ndim :]
    sizes = job.frame_pixel_size_um
    columns = axes_and_direction(covariance, "px")
    in_um = axes_and_direction(covariance * np.outer(sizes, sizes), "um")
    columns.update({key: column for key, column in in_um.items() if key.endswith("_um")})
    size = rows["area"].astype(np.float64)
    columns["equivalent_diameter_px"] = equivalent_diameter(size, ndim)
    columns["equivalent_diameter_um"] = equivalent_diameter(size * np.prod(sizes), ndim)
    if ndim == 2:
        columns["eccentricity"] = eccentricity(covariance)
    columns["extent"] = size / np.maximum(np.prod(rows["stop"] - rows["start"], axis=1), 1)
    return columns


def _at_border(job: ImageJob, rows: Rows) -> Column:
    first = 3 - job.grid.ndim
    limit = np.array(job.grid.shape)
    start, stop = rows["start"][:, first:], rows["stop"][:, first:]
    touches: Column = ((start == 0) | (stop == limit)).any(axis=1)
    return touches


def _axes(job: ImageJob) -> str:
    return "yx" if job.grid.ndim == 2 else "zyx"
