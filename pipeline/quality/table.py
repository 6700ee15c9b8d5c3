"""The table of an image's quality: one row a channel and plane, from the sums of its shards."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.grid import TileGrid
from pipeline.image import ImageInfo
from pipeline.preprocess import natural_range
from pipeline.quality.spectrum import block_side, slope
from pipeline.quality.sums import CELLS, key_values, plane_record
from pipeline.records import Record

#: Numbers of a plane, in the order of the columns.
NUMBERS = (
    "min",
    "p01",
    "p50",
    "p99",
    "p999",
    "max",
    "mean",
    "std",
    "at_min",
    "at_max",
    "background",
    "noise",
    "focus",
    "power_slope",
    "unevenness",
    "corner_to_centre",
)
SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("t", pa.int32()),
        ("z", pa.int32()),
        ("channel", pa.string()),
        ("finite_px", pa.int64()),
        *((name, pa.float64()) for name in NUMBERS),
    ]
)
#: Share of a plane's cells that are darker than the background.
BACKGROUND_SHARE = 0.1
#: Cells of the lattice that are one region of the illumination.
REGION = CELLS // 4


def quality_table(
    name: str, info: ImageInfo, grid: TileGrid, record_of: Callable[[int], Record]
) -> Iterator[pa.Table]:
    """Rows in the order of frames, channels and planes; one table a frame.

    Parameters
    ----------
    name : str
        Of the image.
    info : ImageInfo
    grid : TileGrid
        The shards.
    record_of : callable
        What `measure_region` found in a shard.
    """
    depth = grid.side[0] if grid.ndim == 3 else 1
    for first in range(0, len(grid), _shards_of_planes(grid)):
        records = [record_of(n) for n in range(first, first + _shards_of_planes(grid))]
        tile = grid.tile(first)
        z0 = tile.core.start[0] if grid.ndim == 3 else 0
        planes = min(depth, grid.shape[0] - z0) if grid.ndim == 3 else 1
        rows = []
        for z in range(planes):
            t, plane = (tile.frame, z0 + z) if grid.ndim == 3 else divmod(tile.frame, info.shape[2])
            for c, channel in enumerate(info.channels):
                parts = [plane_record(record, c * planes + z) for record in records]
                numbers = describe_plane(parts, info)
                rows.append({"image": name, "t": t, "z": plane, "channel": channel, **numbers})
        yield pa.Table.from_pylist(rows, SCHEMA)


def _shards_of_planes(grid: TileGrid) -> int:
    """Shards that hold the same planes; they follow each other."""
    return grid.tiles_per_frame if grid.ndim == 2 else grid.tiles_per_frame // grid.counts[0]


def describe_plane(parts: Sequence[Record], info: ImageInfo) -> dict[str, Any]:
    """The numbers of one plane, from the sums of its parts in the order of shards."""
    values, counts = _counted(parts)
    total = int(counts.sum())
    found: dict[str, Any] = dict.fromkeys(NUMBERS, math.nan)
    found["finite_px"] = total
    if total == 0:
        return found
    if natural_range(info.dtype) is None:
        found |= _float_moments(parts)
        values = np.clip(key_values(values), found["min"], found["max"])
    else:
        found |= _whole_moments(values, counts)
    for key, share in (("p01", 0.01), ("p50", 0.5), ("p99", 0.99), ("p999", 0.999)):
        found[key] = quantile(values, counts, share)
    found |= _differences(parts, found["mean"])
    with np.errstate(over="ignore"):
        power = _added([part["power"] for part in parts])
    found["power_slope"] = slope(power, block_side((info.shape[3], info.shape[4])))
    return found | _illumination(parts)


def _counted(parts: Sequence[Record]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What occurs in a plane, ascending, and how often."""
    every = np.concatenate([part["values"] for part in parts]).astype(np.int64)
    values, place = np.unique(every, return_inverse=True)
    counts = np.zeros(len(values), np.int64)
    np.add.at(counts, place, np.concatenate([part["counts"] for part in parts]))
    return values, counts


def quantile(values: NDArray[Any], counts: NDArray[np.int64], share: float) -> float:
    """The smallest value that at least this share of all does not exceed."""
    wanted = math.ceil(share * int(counts.sum()) - 1e-9)
    return float(values[np.searchsorted(np.cumsum(counts), max(1, wanted))])


def _whole_moments(values: NDArray[np.int64], counts: NDArray[np.int64]) -> dict[str, float]:
    n = int(counts.sum())
    # Of any size in Python, so that no sum overflows.
    weighted = [(int(v), int(k)) for v, k in zip(values, counts, strict=True)]
    first = sum(v * k for v, k in weighted)
    second = sum(v * v * k for v, k in weighted)
    return {
        "min": float(values[0]),
        "max": float(values[-1]),
        "mean": first / n,
        "std": math.sqrt((second * n - first * first) / (n * n)),
        "at_min": int(counts[0]) / n,
        "at_max": int(counts[-1]) / n,
    }


def _float_moments(parts: Sequence[Record]) -> dict[str, float]:
    """Of floats, put together by Chan, Golub, LeVeque, 1979, in the order of the parts."""
    known = [part["moments"] for part in parts if part["moments"][0] > 0]
    count, mean, squares = 0.0, 0.0, 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for n, m, s, *_ in known:
            apart = m - mean
            mean = mean + apart * (n / (count + n))
            squares = squares + s + apart * apart * (count * n / (count + n))
            count += n
        low, high = min(part[3] for part in known), max(part[4] for part in known)
        return {
            "min": float(low),
            "max": float(high),
            "mean": float(mean),
            "std": float(np.sqrt(squares / count)),
            "at_min": float(sum(part[5] for part in known if part[3] == low) / count),
            "at_max": float(sum(part[6] for part in known if part[4] == high) / count),
        }


def _differences(parts: Sequence[Record], mean: float) -> dict[str, float]:
    """Focus and noise.

    References
    ----------
    Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, 2000,
    doi:10.1109/ICPR.2000.903548; Immerkaer, Fast noise variance estimation, 1996,
    doi:10.1006/cviu.1996.0060
    """
    # Numbers of Python: whole ones are exact, whatever their size.
    n, first, second, noise = (
        sum(part["differences"].tolist()[k] for part in parts) for k in range(4)
    )
    if n == 0:
        return {}
    spread = second / n - (first / n) ** 2
    focus = spread / mean / mean if mean else math.nan  # a square may leave the floats
    return {"noise": math.sqrt(math.pi / 2) / 6 * noise / n, "focus": focus}


def _illumination(parts: Sequence[Record]) -> dict[str, float]:
    """Background and its evenness, from the means of the cells."""
    areas = _added([part["areas"] for part in parts])
    sums = _added([part["cells"] for part in parts])
    known = areas > 0
    means = np.full(areas.shape, np.nan)
    means[known] = sums[known] / areas[known]
    inside = np.sort(means[known])
    found = {"background": quantile(inside, np.ones(len(inside), np.int64), BACKGROUND_SHARE)}
    if not known.all():
        return found
    shape = (4, REGION, 4, REGION)
    regions = np.median(means.reshape(shape).swapaxes(1, 2).reshape(4, 4, -1), axis=-1)
    centre = regions[1:3, 1:3].mean()
    average = regions.mean()
    if average:
        found["unevenness"] = float(regions.std() / abs(average))
    if centre:
        found["corner_to_centre"] = float(regions[::3, ::3].mean() / centre)
    return found


def _added(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    total = arrays[0].copy()
    for array in arrays[1:]:
        total += array
    return total
