"""OME-Zarr pyramids: layout, metadata, and shards that one task writes alone.

The finest levels of a shard's region are written together by the task that owns the shard, for a
shard of level k holds exactly the region of a shard of level 0. Two writers never meet in one
shard (they would lose each other's chunks: zarr-python#3682). The few coarser levels are written
at the end by one task.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from pipeline.box import Box
from pipeline.grid import TileGrid
from pipeline.image import AXES, ImageInfo
from pipeline.storage import path_of
from pipeline.storage.zarr_store import zarr_place

Pixels = NDArray[Any]

#: Largest sides in px: planes are cut in two axes, volumes in three.
CHUNK = {2: (1, 512, 512), 3: (32, 256, 256)}
SHARD = {2: (1, 2048, 2048), 3: (64, 512, 512)}
#: A shard is halved within its task until it is this small.
SMALLEST_SHARD = 128
#: Coarser levels are made until the longer side of a plane is at most this.
COARSEST = 512


@dataclass(frozen=True, slots=True)
class Pyramid:
    """Where and how one multiscale array is stored.

    Parameters
    ----------
    path : str
        Folder of the group, on disk or in a store.
    kind : {"image", "labels"}
        How pixels are put together at coarser levels: their mean, or the first of four.
    info : ImageInfo
        Sizes and units; labels have the image's without its channels.
    dtype : str
    ndim : int
        2 where frames are planes, 3 where they are volumes.
    levels : int
        Number of levels in all.
    zarr_format : {2, 3}
        2 is OME-Zarr 0.4 (no shards), 3 is 0.5.
    """

    path: str
    kind: Literal["image", "labels"]
    info: ImageInfo
    dtype: str
    ndim: int
    levels: int
    zarr_format: Literal[2, 3] = 3

    @property
    def axes(self) -> str:
        """Axes of the stored array: those that the source has."""
        return "".join(a for a in self.info.axes if a != "c" or self.kind == "image")

    @property
    def shard_side(self) -> tuple[int, int, int]:
        """(Z, Y, X) of a shard of level 0, a power of two in the plane."""
        _, _, *spatial = self.info.shape
        sides = []
        for n, limit in zip(spatial, SHARD[self.ndim], strict=True):
            sides.append(min(limit, 1 << max(0, n - 1).bit_length()))
        return sides[0], sides[1], sides[2]

    def grid(self) -> TileGrid:
        """The shards of level 0 as a grid of tiles; channels of a region belong together."""
        t, _, z, y, x = self.info.shape
        side = self.shard_side
        if self.ndim == 2:
            return TileGrid(t * z, (y, x), side[1:])
        return TileGrid(t, (z, y, x), side)

    @property
    def levels_in_shard(self) -> int:
        """Levels that the owner of a shard writes."""
        side = min(n for n in self.shard_side[1:])
        inside = 1 + max(0, int(math.log2(max(1, side // SMALLEST_SHARD))))
        return min(self.levels, inside)

    def shape(self, level: int) -> tuple[int, int, int, int, int]:
        t, c, z, y, x = self.info.shape
        c = c if self.kind == "image" else 1
        return t, c, z, _halved(y, level), _halved(x, level)

    def create(self) -> None:
        """Make the group, its arrays and its metadata; existing ones are replaced."""
        open_level.cache_clear()
        group = zarr.open_group(zarr_place(self.path), mode="w", zarr_format=self.zarr_format)
        for level in range(self.levels):
            self._create_level(group, level)

    def write_metadata(self, extra: dict[str, Any], name: str = "") -> None:
        """Write the multiscale metadata and what else belongs beside it; named after its folder."""
        multiscale: dict[str, Any] = {
            "name": name or path_of(self.path).name.removesuffix(".ome.zarr"),
            "axes": [_axis(a, self.info) for a in self.axes],
            "datasets": [
                {
                    "path": str(level),
                    "coordinateTransformations": self._transformations(level),
                }
                for level in range(self.levels)
            ],
            "type": "mean" if self.kind == "image" else "nearest",
        }
        group = zarr.open_group(zarr_place(self.path), mode="r+", zarr_format=self.zarr_format)
        if self.zarr_format == 3:
            group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale], **extra}
        else:
            group.attrs.update({"multiscales": [{"version": "0.4", **multiscale}], **extra})

    def scale(self, level: int) -> list[float]:
        """Size of a pixel of a level along the stored axes; 1 where it is not known."""
        z, y, x = (1.0 if size is None else size for size in self.info.pixel_size_um)
        factor = float(2**level)
        step = 1.0 if self.info.time_step_s is None else self.info.time_step_s
        sizes = {"t": step, "c": 1.0, "z": z, "y": y * factor, "x": x * factor}
        return [sizes[a] for a in self.axes]

    def _transformations(self, level: int) -> list[dict[str, Any]]:
        """Size of a pixel, and where on the stage the first one lies if that is known.

        Labels beside an image that says so must say the same, or viewers draw them elsewhere.
        """
        steps: list[dict[str, Any]] = [{"type": "scale", "scale": self.scale(level)}]
        known = zip("zyx", self.info.origin_um, self.info.pixel_size_um, strict=True)
        # Micrometres are the unit of an axis only where the size of its pixels is known.
        origin = {a: at for a, at, size in known if at is not None and size is not None}
        if origin:
            moved = [origin.get(axis, 0.0) for axis in self.axes]
            steps.append({"type": "translation", "translation": moved})
        return steps

    def _create_level(self, group: zarr.Group, level: int) -> None:
        shape, chunk, shard = self.shape(level), self._chunk(level), self._shard(level)
        keep = [AXES.index(a) for a in self.axes]
        options: dict[str, Any] = {"fill_value": 0, "overwrite": True}
        if self.zarr_format == 3:
            options["dimension_names"] = list(self.axes)
            options["compressors"] = [
                BloscCodec(
                    cname="zstd",
                    clevel=1,
                    shuffle="shuffle",
                    typesize=np.dtype(self.dtype).itemsize,
                ),
                # zarr notices a flipped bit only with a checksum.
                Crc32cCodec(),
            ]
            if shard != chunk:
                options["shards"] = tuple(shard[i] for i in keep)
        else:
            options["chunk_key_encoding"] = {"name": "v2", "separator": "/"}
        group.create_array(
            str(level),
            shape=tuple(shape[i] for i in keep),
            chunks=tuple(chunk[i] for i in keep),
            dtype=self.dtype,
            # A chunk that is not there must mean that it was lost.
            config={"write_empty_chunks": True},
            **options,
        )

    def _shard(self, level: int) -> tuple[int, ...]:
        z, y, x = self.shard_side
        if level < self.levels_in_shard:
            return 1, 1, z, y >> level, x >> level
        return (1, 1, z, *SHARD[self.ndim][1:])

    def _chunk(self, level: int) -> tuple[int, ...]:
        shard = self._shard(level)
        return (1, 1, *(min(a, b) for a, b in zip(CHUNK[self.ndim], shard[2:], strict=True)))


def level_count(info: ImageInfo, pyramid: bool) -> int:
    """Levels of an image's pyramid; 1 without."""
    longest = max(info.shape[-2:])
    count = 1
    while pyramid and _halved(longest, count - 1) > COARSEST:
        count += 1
    return count


def halve(pixels: Pixels, kind: Literal["image", "labels"]) -> Pixels:
    """Make an array of shape (..., Y, X) half as large in the plane, rounding sizes up."""
    if kind == "labels":
        return np.ascontiguousarray(pixels[..., ::2, ::2])
    pad = [(0, 0)] * (pixels.ndim - 2) + [(0, n % 2) for n in pixels.shape[-2:]]
    even = np.pad(pixels, pad, mode="edge")
    wide = np.float64 if pixels.dtype.kind == "f" else np.int64
    four = sum(
        (even[..., i::2, j::2].astype(wide) for i in (0, 1) for j in (0, 1)),
        start=np.zeros((), wide),
    )
    mean = four / 4 if pixels.dtype.kind == "f" else (four + 2) // 4
    result: Pixels = np.asarray(mean).astype(pixels.dtype)
    return result


def write_shard(pyramid: Pyramid, number: int, pixels: Pixels) -> list[Pixels]:
    """Write one shard's region at all levels that its owner writes.

    Parameters
    ----------
    pixels : ndarray of shape (C, \\*region)
        C is 1 for labels; the region is (Y, X) or (Z, Y, X).

    Returns
    -------
    list of ndarray
        What was written, one array a level.
    """
    tile = pyramid.grid().tile(number)
    written = []
    for level in range(pyramid.levels_in_shard):
        if level:
            pixels = halve(pixels, pyramid.kind)
        region = shard_region(pyramid, tile.frame, tile.core, level)
        open_level(pyramid.path, level)[_stored(pyramid, region)] = _drop_axes(pyramid, pixels)
        written.append(pixels)
    return written


def read_shard(pyramid: Pyramid, number: int, level: int) -> Pixels:
    """Read a shard's region back, shape (C, \\*region)."""
    tile = pyramid.grid().tile(number)
    region = shard_region(pyramid, tile.frame, tile.core, level)
    pixels: Pixels = np.asarray(open_level(pyramid.path, level)[_stored(pyramid, region)])
    five = pixels.reshape([b - a for a, b in zip(region.start, region.stop, strict=True)])
    return five[0, :, 0] if pyramid.ndim == 2 else five[0]


def write_coarse_levels(pyramid: Pyramid) -> list[Pixels]:
    """Write the levels that no shard's owner wrote, from the coarsest one that was."""
    last = pyramid.levels_in_shard - 1
    written = []
    for level in range(last + 1, pyramid.levels):
        finer = np.asarray(open_level(pyramid.path, level - 1)[...])
        pixels = halve(finer, pyramid.kind)
        open_level(pyramid.path, level)[...] = pixels
        written.append(pixels)
    return written


def shard_region(pyramid: Pyramid, frame: int, core: Box, level: int) -> Box:
    """Region (T, C, Z, Y, X) of a level that belongs to a core of level 0."""
    channels = pyramid.info.shape[1] if pyramid.kind == "image" else 1
    if pyramid.ndim == 2:
        t, z = divmod(frame, pyramid.info.shape[2])
        start, stop = (t, 0, z, *core.start), (t + 1, channels, z + 1, *core.stop)
    else:
        start, stop = (frame, 0, *core.start), (frame + 1, channels, *core.stop)
    return Box(
        (*start[:3], *(a >> level for a in start[3:])),
        (*stop[:3], *(_halved(b, level) for b in stop[3:])),
    )


@functools.lru_cache(maxsize=64)
def open_level(path: str, level: int) -> zarr.Array[Any]:
    """An array of a pyramid, opened once a process."""
    array = zarr.open_array(zarr_place(f"{path}/{level}"), mode="r+")
    # zarr 3.1.6 ignores the `config` of `open_array`. A chunk that is missing must mean loss.
    return array.with_config({"write_empty_chunks": True})


def _halved(n: int, times: int) -> int:
    """n halved and rounded up, several times."""
    return -(-n // (1 << times))


def _stored(pyramid: Pyramid, region: Box) -> tuple[slice, ...]:
    return tuple(region.slices[AXES.index(a)] for a in pyramid.axes)


def _drop_axes(pyramid: Pyramid, pixels: Pixels) -> Pixels:
    """(C, *region) as the stored axes have it."""
    five = pixels[None, :, None] if pyramid.ndim == 2 else pixels[None]
    missing = tuple(i for i, a in enumerate(AXES) if a not in pyramid.axes)
    return np.squeeze(five, axis=missing)


def _axis(name: str, info: ImageInfo) -> dict[str, str]:
    if name == "t":
        unit = {} if info.time_step_s is None else {"unit": "second"}
        return {"name": name, "type": "time", **unit}
    if name == "c":
        return {"name": name, "type": "channel"}
    known = info.pixel_size_um["zyx".index(name)] is not None
    return {"name": name, "type": "space", **({"unit": "micrometer"} if known else {})}
