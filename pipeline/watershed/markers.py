"""Where a flood begins: peaks, deep places, pixels beyond a value, a grid, marks made by hand."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from pipeline.annotations.points import point_pixels, read_points
from pipeline.companions import Pattern
from pipeline.kernels.components import components
from pipeline.kernels.peaks import Distance, find_peaks
from pipeline.kernels.reconstruction import reconstruct
from pipeline.kernels.relabel import first_pixels, numbered, occurring, relabel
from pipeline.label_keys import label_keys
from pipeline.lattice import Lattice
from pipeline.lengths import InUm, Length, Lengths, known
from pipeline.methods.base import Context
from pipeline.methods.checks import check_label_image, check_spacing
from pipeline.places import flat_in_window, linear_indices
from pipeline.view import TileView
from pipeline.watershed.cells import candidates, chosen

Heights: TypeAlias = NDArray[np.int32 | np.float32]
Ints: TypeAlias = NDArray[np.int32]
Longs: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]

#: What the file of given markers is called among an image's companions.
FILE = "markers"


@dataclass(frozen=True, slots=True)
class Marked:
    """Marker pixels of a window.

    Parameters
    ----------
    pixel : ndarray of shape (S,), int64
        Raster indices in the window, each once.
    key : ndarray of shape (S,), int64
        Pixels of one marker have the same key, in all tiles.
    """

    pixel: Longs
    key: Longs

    def labels(self, source: Ints) -> tuple[NDArray[np.uint32], Longs]:
        """Labels by marker from those by marker pixel.

        Parameters
        ----------
        source : ndarray of any shape, int32
            Place, counted from 1, of a marker pixel in this list; 0 is none. Overwritten.

        Returns
        -------
        labels : ndarray of the same shape, uint32
            1..n, each of which occurs.
        key : ndarray of shape (n,), int64
            Of each label.
        """
        keys, marker = np.unique(self.key, return_inverse=True)
        relabel(source, np.append(0, marker + 1).astype(np.int32), out=source)
        labels, found = numbered(source, len(keys) + 1)
        return labels, keys[found - 1]


class Markers(InUm, ABC):
    """One way to find markers."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_by_name=True, serialize_by_alias=True
    )

    def companions(self) -> dict[str, str]:
        """Files beside the image, see `Method.companions`."""
        return {}

    def earlier_labels(self) -> dict[str, str]:
        """Labels made before, see `Method.earlier_labels`."""
        return {}

    def check(self, context: Context) -> None:
        """Raise MethodError if they cannot be found in this image."""

    def scaled(self, factor: float) -> Self:
        """The same markers with heights, and differences of them, in another unit."""
        return self


class PeakMarkers(Markers):
    """Peaks that keep their distance, see `pipeline.kernels.peaks`."""

    kind: Literal["peaks"] = Field(default="peaks", alias="from")


class ZoneMarkers(Markers):
    """Connected zones of the landscape: those that hold a pixel which counts."""

    @abstractmethod
    def zones(self, height: Heights, region: Ints, filled: Heights | None) -> tuple[Mask, Mask]:
        """Pixels of zones, and those of them that make a zone a marker.

        Parameters
        ----------
        height : ndarray of shape (\\*window)
        region : ndarray of the same shape, int32
        filled : ndarray of the same shape and dtype, or None
            What `fill` has become, where the markers fill the landscape.
        """

    #: Whether the landscape is filled first, see `fill`.
    fills: ClassVar[bool] = False

    def fill(self, height: Heights) -> Heights:
        """Heights that `kernels.reconstruction` begins with."""
        raise NotImplementedError


class ThresholdMarkers(ZoneMarkers):
    """Pixels at least `value` high.

    In a landscape of distances, px from the background, or `value_um`; of intensity, grey values at
    least (dark objects: at most) that; of the gradient, at most that.
    """

    kind: Literal["threshold"] = Field(alias="from")
    value: float | None = None
    value_um: float | None = Field(default=None, gt=0)

    lengths: ClassVar[Lengths] = {"value_um": Length("value", "finest", required=True)}

    def scaled(self, factor: float) -> Self:
        return self.model_copy(update={"value": known(self.value) * factor})

    def zones(self, height: Heights, region: Ints, filled: Heights | None) -> tuple[Mask, Mask]:
        value = known(self.value)
        limit = math.ceil(value) if height.dtype.kind == "i" else value
        high: Mask = (height >= limit) & (region > 0)
        return high, high


class HMinimaMarkers(ZoneMarkers):
    """Basins from which no lower place is reached without climbing by `h`.

    The extended minima of mathematical morphology: regional minima after all basins shallower
    than `h` are filled. `h` in px (or `h_um`) where distances are flooded, else in grey values,
    rounded up to a step of the landscape. Soille, Morphological Image Analysis, 2004, 6.3.4,
    doi:10.1007/978-3-662-05088-0
    """

    kind: Literal["h_minima"] = Field(alias="from")
    h: float | None = Field(default=None, gt=0)
    h_um: float | None = Field(default=None, gt=0)

    lengths: ClassVar[Lengths] = {"h_um": Length("h", "finest", required=True)}

    fills: ClassVar[bool] = True

    def scaled(self, factor: float) -> Self:
        return self.model_copy(update={"h": known(self.h) * abs(factor)})

    def fill(self, height: Heights) -> Heights:
        if height.dtype.kind == "f":
            lower: Heights = height - np.float32(known(self.h))
            return lower
        lowest = np.iinfo(np.int32).min
        step = min(math.ceil(known(self.h)), 2**31 - 1)
        return np.maximum(height, lowest + step) - np.int32(step)

    def zones(self, height: Heights, region: Ints, filled: Heights | None) -> tuple[Mask, Mask]:
        if filled is None:
            raise ValueError("h-minima are found in the filled landscape")
        inside = region > 0
        return (filled < height) & inside, (filled == self.fill(height)) & inside


class GridMarkers(Markers):
    """One pixel in every cell of a regular grid of each frame, for superpixels of equal size.

    It is the lowest place (in altitude) of the cell's middle part, which has 2/3 of its sides; of
    several the one nearest to the middle. Components that share a cell have a marker each, and a
    component that no middle part meets has one at its lowest place, so that all that is floodable
    is flooded. `compactness` raises the landscape by this much, in its grey values, at half a
    cell's side from the middle of the nearest cell, and in proportion elsewhere. `spacing`: size of
    a pixel along each axis; `size_px`, the side of a cell, is in the same unit. `size_um`: the side
    in um, with the image's own spacing. Machairas et al.,
    Waterpixels, 2015, doi:10.1109/TIP.2015.2451011
    """

    kind: Literal["grid"] = Field(alias="from")
    size_px: float = Field(default=20.0, ge=2, le=1e6)
    compactness: float = Field(default=0.0, ge=0, le=1e6)
    spacing: tuple[Annotated[float, Field(ge=1e-6, le=1e6)], ...] | None = None
    size_um: float | None = Field(default=None, gt=0)

    lengths: ClassVar[Lengths] = {"size_um": Length("size_px", "lattice")}

    def lattice(self, shape: tuple[int, ...]) -> Lattice:
        """The cells of a frame."""
        return Lattice.of_size(shape, self.size_px, self.spacing)

    def check(self, context: Context) -> None:
        check_spacing("segment.markers.spacing", self.spacing, context)


class PointMarkers(Markers):
    """Points of a file beside the image, see `pipeline.annotations.points`."""

    kind: Literal["points"] = Field(alias="from")
    file: Pattern

    def companions(self) -> dict[str, str]:
        return {FILE: self.file}

    def check(self, context: Context) -> None:
        read_points(context.companions[FILE], context.info, context.name)


class LabelMarkers(Markers):
    """A label image beside the image: pixels of one number are one marker."""

    kind: Literal["labels"] = Field(alias="from")
    file: Pattern

    def companions(self) -> dict[str, str]:
        return {FILE: self.file}

    def check(self, context: Context) -> None:
        check_label_image(FILE, context)


class EarlierLabelMarkers(Markers):
    """Objects of a label that the same recipe has made before: each grows into one object.

    Their pixels are flooded whatever the foreground says: an object holds what it grew from.
    """

    kind: Literal["label"] = Field(alias="from")
    label: str

    def earlier_labels(self) -> dict[str, str]:
        return {FILE: self.label}

    def check(self, context: Context) -> None:
        check_label_image(FILE, context)


AnyMarkers = Annotated[
    PeakMarkers
    | ThresholdMarkers
    | HMinimaMarkers
    | GridMarkers
    | PointMarkers
    | LabelMarkers
    | EarlierLabelMarkers,
    Field(discriminator="kind"),
]


def marked_in_window(
    markers: Markers,
    view: TileView,
    halo_px: int,
    height: Heights,
    region: Ints,
    min_distance_px: Distance,
    connectivity: int,
) -> Marked:
    """Markers of regions that a window holds whole.

    Parameters
    ----------
    markers : Markers
        In the heights' unit.
    height : ndarray of shape (\\*window), int32 or float32
    region : ndarray of the same shape, int32
        0 where there is nothing to flood.
    """
    window = view.window(halo_px)
    if isinstance(markers, PeakMarkers):
        pixel = find_peaks(height, region, min_distance_px)
        return Marked(pixel, linear_indices(view, window, pixel))
    if isinstance(markers, GridMarkers):
        found = candidates(markers.lattice(view.grid.shape), window, height, region)
        pixel = found.pixel[chosen(found)]
        return Marked(pixel, linear_indices(view, window, pixel))
    if isinstance(markers, ZoneMarkers):
        filled: Heights | None = None
        if markers.fills:
            filled = reconstruct(markers.fill(height), height, region, connectivity)
        zone, first = marker_zones(*markers.zones(height, region, filled), connectivity)
        pixel = np.flatnonzero(zone)
        anchor = linear_indices(view, window, first)
        return Marked(pixel, anchor[zone.reshape(-1)[pixel] - 1])
    return given_in_window(markers, view, halo_px, region)


def given_in_window(markers: Markers, view: TileView, halo_px: int, region: Ints) -> Marked:
    """Markers that a file gives, on the regions of a window."""
    window = view.window(halo_px)
    if isinstance(markers, PointMarkers):
        linear = point_pixels(view.job.companions[FILE], view.job.info, view.job.name)
        pixel, inside = flat_in_window(view, window, linear)
        key = linear[inside]
    else:
        numbers = view.companion_labels(FILE, window).reshape(-1)
        pixel = np.flatnonzero(numbers > 0)
        key = label_keys(view, FILE, numbers[pixel])
    wanted = region.reshape(-1)[pixel] > 0
    return Marked(pixel[wanted], key[wanted])


def marker_zones(zone: Mask, counts: Mask, connectivity: int) -> tuple[Ints, Longs]:
    """Number the zones that hold a pixel which counts.

    Returns
    -------
    zones : ndarray of the shape of `zone`, int32
        1..n; 0 elsewhere.
    first : ndarray of shape (n,), int64
        Smallest raster index of each.
    """
    labels, count = components(zone, connectivity)
    number = np.zeros(count + 1, np.int32)
    kept = occurring(labels[counts], count + 1)
    kept[0] = False
    number[kept] = np.arange(1, int(kept.sum()) + 1)
    found: Ints = relabel(labels, number)
    return found, first_pixels(found, int(kept.sum()))
