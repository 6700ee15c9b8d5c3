"""The `measure` section of a recipe: which families of measurements are taken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.job import ImageJob
from pipeline.measurements.euler import Euler
from pipeline.measurements.family import Family
from pipeline.measurements.hull import Hull
from pipeline.measurements.neighbours import Neighbours
from pipeline.measurements.perimeter import Perimeter
from pipeline.measurements.quantiles import Quantiles
from pipeline.measurements.ring import WIDEST_PX, Ring
from pipeline.measurements.texture import Texture
from pipeline.measurements.weighted_centroid import WeightedCentroid

#: Every family, in the order of their columns.
FAMILIES: tuple[type[Family], ...] = (
    Perimeter,
    Hull,
    Euler,
    WeightedCentroid,
    Quantiles,
    Ring,
    Texture,
    Neighbours,
)
_SHAPE: dict[str, type[Family]] = {"perimeter": Perimeter, "hull": Hull, "euler": Euler}
Shape = Literal["perimeter", "hull", "euler"]


class MeasureSection(BaseModel):
    """`channels`: whose intensities are measured, by name or number; by default all. `quality`:
    measure focus, noise, saturation and illumination of every plane of every channel.

    Size, place, axes and intensities are always measured. What follows takes one more pass over
    the labels, all of it together. `shape`: true, or some of perimeter, hull, euler.
    `weighted_centroid`: of every channel. `quantiles`: for example [0.5] for the median, of images
    of 8 or 16 bits. `ring_px` or `ring_um`: intensities around each object, so far. `texture`:
    true, or levels, range, distance_px. `neighbours`: true, or within_px.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: tuple[int | str, ...] | None = None
    quality: bool = True
    shape: bool | tuple[Shape, ...] = False
    weighted_centroid: bool = False
    quantiles: tuple[float, ...] = ()
    ring_px: float | None = Field(default=None, ge=1, le=WIDEST_PX)
    ring_um: float | None = Field(default=None, gt=0)
    texture: bool | Texture = False
    neighbours: bool | Neighbours = False

    @model_validator(mode="after")
    def _one_ring(self) -> MeasureSection:
        if self.ring_px is not None and self.ring_um is not None:
            raise ValueError("the ring has one width: give ring_px or ring_um")
        list(self._families())
        return self

    def families(self) -> tuple[Family, ...]:
        """What needs a pass over the final labels, in the order of the columns."""
        return tuple(self._families())

    def _families(self) -> Iterator[Family]:
        wanted = tuple(_SHAPE) if self.shape is True else self.shape or ()
        yield from (family() for name, family in _SHAPE.items() if name in wanted)
        if self.weighted_centroid:
            yield WeightedCentroid()
        if self.quantiles:
            yield Quantiles(values=self.quantiles)
        if self.ring_px is not None:
            yield Ring(width=self.ring_px)
        if self.ring_um is not None:
            yield Ring(width=self.ring_um, unit="um")
        if self.texture:
            yield Texture() if self.texture is True else self.texture
        if self.neighbours:
            yield Neighbours() if self.neighbours is True else self.neighbours

    def check(self, job: ImageJob) -> None:
        """Raise MethodError if a family does not apply to an image."""
        for family in self._families():
            family.check(job)
