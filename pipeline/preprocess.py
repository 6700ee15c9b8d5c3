"""Filters before the segmentation, each with the halo that makes it exact.

Outside the frame the nearest pixel is repeated. A filter looks at a bounded neighbourhood, and
the order of its additions does not depend on where the window lies, so that the pixels of a core
are the same bits in every window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator, Field
from scipy import ndimage

from pipeline.filter import Filter, Pixels, Place, PlainFilter
from pipeline.flat_field.filter import FlatField
from pipeline.lengths import Length, Lengths, per_axis

#: A standard deviation in px: the same on every axis, or one an axis.
Sigma = Annotated[float, Field(gt=0, le=200)]
Sigmas = Sigma | tuple[Sigma, ...]


def _some_reach(radii: tuple[int, ...]) -> tuple[int, ...]:
    if not any(radii):
        raise ValueError(f"{list(radii)} is 0 along every axis: less than half a pixel")
    return radii


#: Radii in px, one an axis; some may be 0.
Radii50 = Annotated[
    tuple[Annotated[int, Field(ge=0, le=50)], ...], AfterValidator(_some_reach), Field(min_length=2)
]
Radii500 = Annotated[
    tuple[Annotated[int, Field(ge=0, le=500)], ...],
    AfterValidator(_some_reach),
    Field(min_length=2),
]


class Gaussian(PlainFilter):
    """Gaussian blur; the result is float32.

    `sigma_px`: the standard deviation, or one an axis; `sigma_um`: the same in um. The kernel ends
    at 4 sigma.
    """

    filter: Literal["gaussian"]
    sigma_px: Sigmas | None = None
    sigma_um: float | None = Field(default=None, gt=0)

    lengths: ClassVar[Lengths] = {"sigma_um": Length("sigma_px", "along", required=True)}

    def halo_px(self) -> int:
        return int(4.0 * max(per_axis(self.sigma_px, 1)) + 0.5)

    def apply(self, image: Pixels) -> Pixels:
        sigmas = per_axis(self.sigma_px, image.ndim)
        blurred: Pixels = ndimage.gaussian_filter(
            image.astype(np.float32), sigmas, mode="nearest", truncate=4.0
        )
        return blurred

    def dtype(self, before: np.dtype[np.generic]) -> np.dtype[np.generic]:
        return np.dtype(np.float32)


class Median(PlainFilter):
    """Median over a square (cube in 3D) of side 2 `radius_px` + 1.

    `radius_px` may be one number an axis; `radius_um`: the same in um.
    """

    filter: Literal["median"]
    radius_px: Annotated[int, Field(gt=0, le=50)] | Radii50 | None = None
    radius_um: float | None = Field(default=None, gt=0)

    lengths: ClassVar[Lengths] = {"radius_um": Length("radius_px", "steps", required=True)}

    def halo_px(self) -> int:
        return max(per_axis(self.radius_px, 1))

    def apply(self, image: Pixels) -> Pixels:
        sides = [2 * radius + 1 for radius in per_axis(self.radius_px, image.ndim)]
        result: Pixels = ndimage.median_filter(image, sides, mode="nearest")
        return result


class SubtractBackground(PlainFilter):
    """White top-hat: the image less its opening by a square (cube in 3D).

    What is narrower than 2 `radius_px` + 1 stays, slow changes of the background go. `radius_px`
    may be one number an axis; `radius_um`: the same in um.

    References
    ----------
    Sternberg, Grayscale morphology, 1986, doi:10.1016/0734-189X(86)90004-6
    """

    filter: Literal["subtract_background"]
    radius_px: Annotated[int, Field(gt=0, le=500)] | Radii500 | None = None
    radius_um: float | None = Field(default=None, gt=0)

    lengths: ClassVar[Lengths] = {"radius_um": Length("radius_px", "steps", required=True)}

    def halo_px(self) -> int:
        return 2 * max(per_axis(self.radius_px, 1))

    def apply(self, image: Pixels) -> Pixels:
        sides = [2 * radius + 1 for radius in per_axis(self.radius_px, image.ndim)]
        opened = image
        for axis, side in enumerate(sides):
            opened = ndimage.minimum_filter1d(opened, side, axis, mode="nearest")
        for axis, side in enumerate(sides):
            opened = ndimage.maximum_filter1d(opened, side, axis, mode="nearest")
        # Near the border the opening of repeated pixels can exceed the image.
        result: Pixels = image - np.minimum(opened, image)
        # A difference that does not fit into a signed type has wrapped; read unsigned it is right.
        return result.view(self.dtype(image.dtype))

    def value_range(self, low: float, high: float) -> tuple[float, float]:
        return 0.0, high - low

    def dtype(self, before: np.dtype[np.generic]) -> np.dtype[np.generic]:
        # The span of a signed type does not fit into it.
        return before if before.kind in "uf" else np.dtype(f"u{before.itemsize}")


Step = Annotated[Gaussian | Median | SubtractBackground | FlatField, Field(discriminator="filter")]


def total_halo_px(steps: Sequence[Filter]) -> int:
    """Halo of all the steps together."""
    return sum(step.halo_px() for step in steps)


def apply_all(steps: Sequence[Filter], image: Pixels, place: Place) -> Pixels:
    """Run the steps over one channel."""
    for step in steps:
        image = step.apply_at(image, place)
    return image


def final_dtype(steps: Sequence[Filter], dtype: str) -> np.dtype[np.generic]:
    """What pixels of `dtype` have become after the steps."""
    kind: np.dtype[np.generic] = np.dtype(dtype)
    for step in steps:
        kind = step.dtype(kind)
    return kind


def final_range(
    steps: Sequence[Filter], low: float, high: float, place: Place
) -> tuple[float, float]:
    """Range of the values after the steps."""
    for step in steps:
        low, high = step.range_at(low, high, place)
    return low, high


def natural_range(dtype: str) -> tuple[float, float] | None:
    """Range of a dtype that needs no survey: integers of up to 16 bits."""
    kind = np.dtype(dtype)
    if kind.kind in "iu" and kind.itemsize <= 2:
        limits = np.iinfo(kind)
        return float(limits.min), float(limits.max)
    return None
