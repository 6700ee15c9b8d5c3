"""The contract of a family of measurements.

A family looks at the final labels of one tile with a halo around it and gives rows of whole
numbers. Rows of all tiles that an object reaches are merged, in any order, and columns of the
table are made of what is merged. So no column depends on how the image was cut.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from pipeline.job import ImageJob
from pipeline.measurements.rows import Rows, merged
from pipeline.view import TileView

Labels = NDArray[np.uint32]
Halo = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class ColumnText:
    """What docs/tables.md says of a column, or of several that differ by a part in braces.

    Parameters
    ----------
    name : str
        With {channel}, {axis} and the like.
    unit, dtype : str
    definition : str
    source : str
        Where the definition comes from: a function or a DOI.
    """

    name: str
    unit: str
    dtype: str
    definition: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class MeasureWindow:
    """Final labels of a tile's core and of what surrounds it.

    Parameters
    ----------
    view : TileView
    labels : ndarray of shape (Z, Y, X), uint32
        Numbers 1..n in the order of final labels; 0 for background and behind the frame's border.
    halo : tuple of int
        Pixels around the core along z, y, x.
    names : ndarray of shape (n,), int64
        Final label of each number.
    """

    view: TileView
    labels: Labels
    halo: Halo
    names: NDArray[np.int64]

    @property
    def job(self) -> ImageJob:
        return self.view.job

    @property
    def ndim(self) -> int:
        return self.view.grid.ndim

    @property
    def count(self) -> int:
        return len(self.names)

    @property
    def origin(self) -> NDArray[np.int64]:
        """First pixel of the core in its frame: z, y, x."""
        return np.array((0, *self.view.tile.core.start)[-3:], np.int64)

    @property
    def is_last(self) -> Halo:
        """1 for each axis along which no core follows, 0 for the others and the missing z."""
        stop, shape = self.view.tile.core.stop, self.view.grid.shape
        ends = [int(a == b) for a, b in zip(stop, shape, strict=True)]
        z, y, x = (0, *ends)[-3:]
        return z, y, x

    def within(self, halo: Halo) -> Labels:
        """Labels with a smaller halo."""
        cut = tuple(
            slice(wide - own, size - wide + own)
            for wide, own, size in zip(self.halo, halo, self.labels.shape, strict=True)
        )
        return np.ascontiguousarray(self.labels[cut])

    def core(self) -> Labels:
        """Labels of the core."""
        return self.within((0, 0, 0))

    def pixels(self, channel: int) -> NDArray[Any]:
        """Pixels of the core as the file has them, (Z, Y, X)."""
        found = self.view.raw([channel], self.view.tile.core)[0]
        return np.ascontiguousarray(found.reshape(self.core_shape))

    def pixels_around(self, channel: int, halo: Halo) -> NDArray[Any]:
        """Pixels with a halo; 0 behind the frame's border."""
        grid, core = self.view.grid, self.view.tile.core
        box = core.grow(halo[3 - grid.ndim :], grid.frame_box)
        found = self.view.raw([channel], box)[0]
        return padded(found, core.start, core.stop, box.start, box.stop, halo)

    @property
    def core_shape(self) -> Halo:
        z, y, x = (1, *self.view.tile.core.shape)[-3:]
        return z, y, x


def padded(
    array: NDArray[Any],
    start: tuple[int, ...],
    stop: tuple[int, ...],
    box_start: tuple[int, ...],
    box_stop: tuple[int, ...],
    halo: Halo,
) -> NDArray[Any]:
    """Surround a clipped box of a frame by 0, so that the core has all of its halo; (Z, Y, X)."""
    margin = halo[3 - array.ndim :]
    missing = [
        (k - (a - c), k - (d - b))
        for a, b, c, d, k in zip(start, stop, box_start, box_stop, margin, strict=True)
    ]
    whole = np.pad(array, missing)
    return whole.reshape((1,) * (3 - array.ndim) + whole.shape)


class Gathering(BaseModel, ABC):
    """Something that is gathered of all objects, tile by tile."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Begins the names of its records.
    name: ClassVar[str]
    #: CPU seconds a megapixel, of channels each; and bytes a pixel of the window, with its labels.
    #: Measured with objects of 12 to 48 px on planes and volumes.
    seconds_per_megapixel: ClassVar[float] = 0.02
    bytes_per_px: ClassVar[float] = 20.0
    #: Whether it looks at every measured channel.
    of_channels: ClassVar[bool] = False

    def halo(self, job: ImageJob) -> Halo:
        """Pixels that it must see around a core, along z, y, x."""
        return 0, 0, 0

    def check(self, job: ImageJob) -> None:
        """Raise MethodError if it does not apply to an image."""

    def cpu_seconds_per_megapixel(self, job: ImageJob) -> float:
        """For the plan's rough prediction."""
        return self.seconds_per_megapixel * (max(1, len(job.measured)) if self.of_channels else 1)

    @abstractmethod
    def no_rows(self, job: ImageJob) -> Rows:
        """Its rows, none of them: columns with their dtypes."""

    @abstractmethod
    def map(self, window: MeasureWindow) -> Rows:
        """Rows of one tile: "label" is the final label, int64, and the others add up."""

    def merge(self, rows: Rows) -> Rows:
        """Put rows of the same object together, in the order of labels.

        It must not matter in which order, and in how many steps, rows are merged.
        """
        return merged(rows)


class Family(Gathering):
    """One family of measurements and its parameters: columns of the table."""

    @abstractmethod
    def finish(self, job: ImageJob, rows: Rows, objects: Mapping[str, Any]) -> dict[str, Any]:
        """Columns of the table.

        Parameters
        ----------
        job : ImageJob
        rows : dict of ndarray
            Merged rows of some whole objects.
        objects : dict of ndarray
            "label", and columns of the table that are known already, in the order of labels;
            "ranges" of the measured channels' values.
        """

    @classmethod
    @abstractmethod
    def texts(cls) -> tuple[ColumnText, ...]:
        """What the documentation says of the columns."""


def held_by_frame(job: ImageJob, reach: Halo) -> Halo:
    """The part of a reach that any core has around it in its frame; behind the border is nothing.

    As much lies before the last core of an axis as all cores before it take: none if it is alone.
    """
    sides, counts = (1, *job.grid.side)[-3:], (1, *job.grid.counts)[-3:]
    z, y, x = (
        min(px, side * (count - 1)) for px, side, count in zip(reach, sides, counts, strict=True)
    )
    return z, y, x


def unit_halo(job: ImageJob, px: int = 1) -> Halo:
    """The same halo along all axes of a frame."""
    return (px if job.grid.ndim == 3 else 0), px, px
