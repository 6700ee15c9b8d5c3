"""The recipe's step `flat_field`."""

from __future__ import annotations

import math
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.errors import MethodError
from pipeline.filter import Filter, Pixels, Place
from pipeline.flat_field.profiles import ProfileFile, ProfileFiles, file_of
from pipeline.flat_field.survey import DARK, FLAT, FlatFieldSurvey
from pipeline.kernels.flat_field import correct_plane
from pipeline.methods.base import Context, Round, State

Floats = NDArray[np.float32]


class FlatField(Filter):
    """Flat field: (pixel - dark) / gain, as float32; it comes first, for it is the camera's.

    Either `profile` names a file with the gain (a path, or one for each channel; divided by its
    mean), and `dark` one with the offset, of the frame's size or, with `resize`, of any. Or
    `estimate` finds the gain from `pictures` frames of the whole dataset: "basic" (BaSiC), with
    `darkfield` the offset too; or "median" (of all pictures, smoothed).

    References
    ----------
    Peng et al., A BaSiC tool for background and shading correction of optical microscopy images,
    2017, doi:10.1038/ncomms14836
    """

    filter: Literal["flat_field"]
    profile: ProfileFiles | None = None
    dark: ProfileFiles | None = None
    resize: bool = False
    estimate: Literal["basic", "median"] | None = None
    darkfield: bool = False
    pictures: int = Field(default=100, ge=8, le=1000)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.profile is None) == (self.estimate is None):
            raise ValueError("give either `profile: file` or `estimate: basic`")
        if self.profile is None and (self.dark is not None or self.resize):
            raise ValueError("`dark` and `resize` go with `profile`; an estimate has `darkfield`")
        if self.darkfield and self.estimate != "basic":
            raise ValueError("`darkfield` goes with `estimate: basic`")
        files = self.files()
        if len({one.shape[1:] for one in files}) > 1:
            sizes = ", ".join(f"{one.path} {one.shape[1]} x {one.shape[2]} px" for one in files)
            raise ValueError(f"`profile` and `dark` of one camera have one size, not {sizes}")
        return self

    def files(self) -> list[ProfileFile]:
        """Profiles that are read from files."""
        return [*(self.profile or {}).values(), *(self.dark or {}).values()]

    def halo_px(self) -> int:
        return 0

    def dtype(self, before: np.dtype[np.generic]) -> np.dtype[np.generic]:
        return np.dtype(np.float32)

    def is_dataset_wide(self) -> bool:
        return self.estimate is not None

    def notes(self) -> tuple[str, ...]:
        if self.estimate is None:
            return ()
        return (f"flat field: {self.pictures} frames of the dataset are looked at first, at most",)

    def next_round(self, state: State, context: Context) -> Round | None:
        if self.estimate is None or FLAT in state:
            return None
        return FlatFieldSurvey(self.estimate, self.darkfield, self.pictures)

    def apply_at(self, image: Pixels, place: Place) -> Pixels:
        flat, dark = self._profile(place)
        corrected = np.empty(image.shape, np.float32)
        origin = (place.box.start[-2], place.box.start[-1])
        frame = (place.frame.stop[-2], place.frame.stop[-1])
        planes = corrected.reshape(-1, *image.shape[-2:])
        for plane, target in zip(image.reshape(planes.shape), planes, strict=True):
            correct_plane(plane, flat, dark, origin, frame, target)
        return corrected

    def range_at(self, low: float, high: float, place: Place) -> tuple[float, float]:
        if not low <= high:
            return low, high
        flat, dark = self._profile(place)
        gains = float(flat.min()), float(flat.max())
        least = min((low - float(dark.max())) / gain for gain in gains)
        most = max((high - float(dark.min())) / gain for gain in gains)
        return _below(least), -_below(-most)

    def check(self, context: Context) -> None:
        if self.profile is None:
            return
        for number in context.selected:
            name = context.info.channels[number]
            for key, files in (("profile", self.profile), ("dark", self.dark or {})):
                found = file_of(files, name, number)
                if found is None and key == "profile":
                    raise MethodError(
                        context.name,
                        f"the flat_field step has no profile for its channel {name!r}",
                        f"Name one for it, or choose among {', '.join(files)} in source.channels.",
                    )
                if found is not None:
                    _check_size(context, key, found.path, found.shape, number, self.resize)
            gain = file_of(self.profile, name, number)
            # As it lies in the file: a mean of 0 or less would hide what gains are.
            if gain is not None and (least := float(gain.plane(number).min())) <= 0:
                raise MethodError(
                    context.name,
                    f"the profile of channel {name!r}, {gain.path}, has a gain of {least:g}; gains "
                    "are above 0",
                    "Repair the profile where it is dark, or use `estimate: basic`.",
                )

    def extra_bytes(self, context: Context) -> int:
        return sum(8 * math.prod(one.shape) for one in self.files())

    def _profile(self, place: Place) -> tuple[Floats, Floats]:
        """Gain and offset of a channel; both have the same points."""
        if self.profile is None:
            return place.state[FLAT][place.channel], place.state[DARK][place.channel]
        given = file_of(self.profile, place.name, place.number)
        if given is None:
            raise ValueError(f"no profile for the channel {place.name!r}")
        flat = given.gain(place.number)
        offset = file_of(self.dark or {}, place.name, place.number)
        if offset is None:
            return flat, np.zeros_like(flat)
        return flat, offset.plane(place.number)


def _check_size(
    context: Context, key: str, path: str, shape: tuple[int, int, int], number: int, resize: bool
) -> None:
    channels, height, width = shape
    frame = context.grid.shape[-2:]
    if channels > 1 and channels != len(context.info.channels):
        raise MethodError(
            context.name,
            f"it has {len(context.info.channels)} channels, the {key} {path} has {channels}",
            "Give one channel, as many as the image has, or a file for each channel.",
        )
    if (height, width) != frame and not resize:
        raise MethodError(
            context.name,
            f"its frame has {frame[0]} x {frame[1]} px, the {key} {path} {height} x {width}",
            "Use the one that was taken with it, or say `resize: true`.",
        )


def _below(value: float) -> float:
    """A float32 that is certainly not above what rounding makes of a value."""
    return float(np.nextafter(np.nextafter(np.float32(value), -np.inf), -np.inf))
