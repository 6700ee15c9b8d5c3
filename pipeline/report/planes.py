"""Small regions of one plane of an image: its labels, and its pixels wherever they are.

Shown is the middle plane of the first time point. A read is bounded by `MOST_PX`, whatever the
size of the image: coarse levels are read whole, level 0 only in crops.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pipeline.box import Box
from pipeline.errors import TilewrightError
from pipeline.manifest import ImageRow
from pipeline.output import LABELS, place_of
from pipeline.sources import SourceSpec, discover, expand, open_source
from pipeline.sources.ome_zarr_metadata import ome_attributes
from pipeline.sources.seen import Seen
from pipeline.sources.spec_json import spec_from_json
from pipeline.storage import AnyPath, is_inside, path_of
from pipeline.storage.folders import is_group
from pipeline.storage.zarr_store import zarr_place

log = logging.getLogger(__name__)

Pixels = NDArray[Any]

#: Largest plane that is read whole.
MOST_PX = 2048 * 2048
#: A source that stores more pixels than this together is not read: a crop would decode them all.
MOST_CHUNK_PX = 32_000_000


@dataclass(frozen=True, slots=True)
class Level:
    """One stored array of a pyramid.

    Parameters
    ----------
    path : Path or StorePath
    axes : str or tuple of str
        Axes of the array, in its order.
    shape : tuple of int
        (Y, X).
    """

    path: AnyPath
    axes: Sequence[str]
    shape: tuple[int, int]

    def read(self, box: Box, channel: int = 0) -> Pixels:
        """Read a (y, x) box of the plane that is shown; shape (Y, X)."""
        array = zarr.open_array(zarr_place(self.path), mode="r")
        where: list[int | slice] = []
        for axis, n in zip(self.axes, array.shape, strict=True):
            in_plane = dict(zip("yx", box.slices, strict=True))
            at = {"z": n // 2, "c": channel}.get(axis, 0)
            where.append(in_plane.get(axis, at))
        pixels: Pixels = np.asarray(array[tuple(where)])
        flipped = list(self.axes).index("y") > list(self.axes).index("x")
        return pixels.T if flipped else pixels


def label_levels(row: ImageRow, part: str = LABELS) -> list[Level]:
    """The levels of an image's labels, or of its fragments if it has any, the finest first."""
    group = path_of(row.details["location"]) / place_of(part, row.details["label"])
    axes = [axis for axis in row.details["axes"] if axis != "c"]
    levels: list[Level] = []
    while is_group(path := group / str(len(levels))):
        levels.append(_level(path, axes))
    return levels


class Picture:
    """The pixels behind an image's labels.

    Parameters
    ----------
    row : ImageRow
        A published image.
    missing_chunks : str
        As in the recipe.

    Raises
    ------
    TilewrightError
        The image cannot be opened, is not the one that was segmented, or has no region that could
        be read by itself.
    """

    def __init__(self, row: ImageRow, missing_chunks: str) -> None:
        self._source = open_source(picture_spec(row, missing_chunks))
        info = self._source.info
        if list(info.shape) != list(row.details["shape"]):
            raise TilewrightError(f"{row.source}: its shape changed to {info.shape}.")
        if math.prod(info.chunks) > MOST_CHUNK_PX:
            raise TilewrightError(f"{row.source}: its pixels are stored in too large pieces.")
        self.channels = info.channels
        self._coarse: list[Level] = []
        if self._source.spec.reader == "ome_zarr":
            # Another writer's coarse levels may be of any kind; level 0 is what counts.
            with suppress(Exception):
                self._coarse = _coarse_levels(path_of(self._source.spec.path))

    def crop(self, box: Box, channels: Sequence[int]) -> Pixels:
        """Read a (y, x) box at full resolution; shape (C, Y, X)."""
        z = self._source.info.shape[2] // 2
        whole = Box((z, *box.start), (z + 1, *box.stop))
        return self._source.read(0, channels, whole)[:, 0]

    def overview(self, longest: int, channels: Sequence[int]) -> Pixels | None:
        """Read the whole plane at the coarsest level that is at least `longest` px long.

        Returns
        -------
        ndarray of shape (C, Y, X) or None
            None if there is no level that is small enough.
        """
        for level in reversed(self._coarse):
            if longest <= max(level.shape) and math.prod(level.shape) <= MOST_PX:
                box = Box.whole(level.shape)
                return np.stack([level.read(box, channel) for channel in channels])
        plane = self._source.info.shape[-2:]
        return self.crop(Box.whole(plane), channels) if math.prod(plane) <= MOST_PX else None

    def close(self) -> None:
        self._source.close()


def picture_spec(row: ImageRow, missing_chunks: str) -> SourceSpec:
    """Where the pixels are: in what was published if they were written, else in the archive."""
    if row.details["output"] != "none":
        return SourceSpec("ome_zarr", row.details["location"], row.name, "", missing_chunks)
    if "spec" in row.details:
        return replace(spec_from_json(row.details["spec"]), missing_chunks=missing_chunks)
    images = [image for file in discover(path_of(row.source)) for image in expand(file)]
    # Images of one file differ in their endings: see `expand`. "A_1" ends in "1", too.
    named = [i for i in images if len(images) == 1 or row.name.endswith(f"_{i.ending}")]
    if not named:
        raise TilewrightError(f"{row.source}: which of its images this is cannot be told.")
    image = max(named, key=lambda i: len(i.ending))
    seen = Seen.of(row.details.get("seen"))
    return replace(image, name=row.name, missing_chunks=missing_chunks, seen=seen)


def _coarse_levels(group: AnyPath) -> list[Level]:
    """Levels 1 and up of an OME-Zarr, as its metadata name them."""
    attributes: Any = ome_attributes(dict(zarr.open_group(zarr_place(group), mode="r").attrs))
    scale = attributes["multiscales"][0]
    axes = [a["name"] if isinstance(a, dict) else a for a in scale.get("axes", "tczyx")]
    paths = [(group / item["path"]).resolve() for item in scale["datasets"][1:]]
    return [_level(path, axes) for path in paths if is_inside(path, group.resolve())]


def _level(path: AnyPath, axes: Sequence[str]) -> Level:
    shape = dict(zip(axes, zarr.open_array(zarr_place(path), mode="r").shape, strict=True))
    return Level(path, axes, (int(shape["y"]), int(shape["x"])))
