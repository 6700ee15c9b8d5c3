"""The `measure` section of a recipe: which families of measurements are taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pipeline.errors import MethodError
from pipeline.job import ImageJob
from pipeline.measurements.euler import Euler
from pipeline.measurements.family import Family
from pipeline.measurements.hull import Hull
from pipeline.measurements.neighbours import Neighbours
from pipeline.measurements.perimeter import Perimeter
from pipeline.measurements.quantiles import Quantiles, quantile_name
from pipeline.measurements.ring import WIDEST_PX, Ring
from pipeline.measurements.texture import Texture
from pipeline.measurements.weighted_centroid import WeightedCentroid
from pipeline.validation import Channels

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


def _shapes(given: object) -> object:
    known = list(_SHAPE)
    listed = isinstance(given, list | tuple) and all(one in known for one in given)
    if not (listed or isinstance(given, bool)):
        raise ValueError(
            f"must be true, false, or a list of {', '.join(known)}, for example [hull], not "
            f"{given!r}"
        )
    return given


def _model_of(family: type[Family]) -> Callable[[object], object]:
    """Reads a family that is true, false, or a mapping of its own keys."""

    def read(given: object) -> object:
        if isinstance(given, dict):
            return family.model_validate(given)
        if not isinstance(given, bool | family):
            keys = ", ".join(family.model_fields)
            wanted = f"true, false, or keys of its own ({keys})"
            raise ValueError(f"must be {wanted}, not {given!r}")  # noqa: TRY004 - for pydantic
        return given

    return read


def _quantiles(given: object) -> object:
    if not isinstance(given, list | tuple) or any(
        isinstance(one, bool) or not isinstance(one, int | float) for one in given
    ):
        raise ValueError(f"must be a list of numbers from 0 to 1, for example [0.5], not {given!r}")
    for one in given:
        if not 0 <= one <= 1:
            percent = f"; {one:g} % are {one / 100:g}" if 1 < one <= 100 else ""
            raise ValueError(f"must be from 0 to 1, and {one:g} is not{percent}")
    names = [quantile_name(one) for one in given]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"each must be there once: {', '.join(repeated)} would be two columns")
    return given


def _each_once(given: object) -> object:
    channels = given if isinstance(given, list | tuple) else []
    if len(set(channels)) < len(channels):
        raise ValueError(f"each channel must be there once, not as in {list(channels)}")
    return given


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

    channels: Annotated[Channels | None, BeforeValidator(_each_once)] = None
    quality: bool = True
    shape: Annotated[bool | tuple[Shape, ...], BeforeValidator(_shapes)] = False
    weighted_centroid: bool = False
    quantiles: Annotated[tuple[float, ...], BeforeValidator(_quantiles)] = ()
    ring_px: float | None = Field(default=None, ge=1, le=WIDEST_PX)
    ring_um: float | None = Field(default=None, gt=0)
    texture: Annotated[bool | Texture, BeforeValidator(_model_of(Texture))] = False
    neighbours: Annotated[bool | Neighbours, BeforeValidator(_model_of(Neighbours))] = False

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
        if len(set(job.measured)) < len(job.measured):
            raise MethodError(
                job.name,
                f"measure.channels names a channel twice: {list(self.channels or ())} are numbers "
                f"{', '.join(map(str, job.measured))}",
                "Name each once.",
            )
        for family in self._families():
            family.check(job)
