"""The request for one image: a small value that travels to the workers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from pipeline import __version__
from pipeline.companions import Companion
from pipeline.errors import MethodError
from pipeline.files import digest
from pipeline.grid import TileGrid
from pipeline.image import ImageInfo
from pipeline.methods.base import Context
from pipeline.names import nearest
from pipeline.preprocess import final_dtype, natural_range, total_halo_px
from pipeline.sources import SourceSpec

if TYPE_CHECKING:
    from pipeline.recipe import Recipe


@dataclass(frozen=True, slots=True)
class ImageJob:
    """One image and all that decides its labels.

    Parameters
    ----------
    plan : str
        Identity of the request: recipe, code version and content of the source.
    name : str
        Relative path without suffix, as the user knows the image.
    source : SourceSpec
        Where the pixels are read; the staged copy once there is one.
    info : ImageInfo
    recipe : Recipe
    channels, measured : tuple of int
        Numbers of the channels that are segmented and measured.
    grid : TileGrid
    work : str
        Folder for scratch and records of this image.
    companions : dict
        Files beside the image, by what they are for.
    hold_bytes : int
        Unpacked blocks of the source that ingest may keep in a worker.
    """

    plan: str
    name: str
    source: SourceSpec
    info: ImageInfo
    recipe: Recipe
    channels: tuple[int, ...]
    measured: tuple[int, ...]
    grid: TileGrid
    work: str
    companions: Mapping[str, Companion] = field(default_factory=dict)
    hold_bytes: int = 0

    @property
    def context(self) -> Context:
        return Context(
            name=self.name,
            grid=self.grid,
            channels=len(self.channels),
            dtype=final_dtype(self.recipe.preprocess, self.info.dtype).name,
            info=self.info,
            companions=self.companions,
            selected=self.channels,
        )

    @property
    def needs_range(self) -> bool:
        """Whether the image's value range must be surveyed before anything else."""
        return natural_range(self.info.dtype) is None

    @property
    def halo_px(self) -> int:
        """Halo of a first visit, preprocessing included."""
        return self.recipe.segment.halo_px() + total_halo_px(self.recipe.preprocess)

    @property
    def frame_pixel_size_um(self) -> tuple[float, ...]:
        """Micrometres a pixel along the frame's axes; NaN where the file does not say."""
        sizes = self.info.pixel_size_um[3 - self.grid.ndim :]
        return tuple(float("nan") if size is None else size for size in sizes)

    def reading(self, source: SourceSpec) -> ImageJob:
        """The same request with its pixels read elsewhere."""
        return replace(self, source=source)


def plan_id(
    recipe: Recipe | Sequence[Recipe],
    fingerprint: str,
    companions: Mapping[str, Companion] | Sequence[Mapping[str, Companion]],
    dataset: str = "",
) -> str:
    """Identity of a request for one image: recipe, code, pixels and companions.

    Of several labels there is a recipe and a mapping each. `dataset` is the identity of all images,
    where they decide together.
    """
    recipes = recipe if isinstance(recipe, Sequence) else [recipe]
    files = [companions] if isinstance(companions, Mapping) else companions
    content: list[object] = []
    for one in recipes:
        content += [one.identity(), one.segment.revision]
    content += [__version__, fingerprint, dataset]
    content += [found[key].fingerprint for found in files for key in sorted(found)]
    return digest(json.dumps(content).encode())


def choose_channels(
    wanted: Sequence[int | str] | None, info: ImageInfo, name: str
) -> tuple[int, ...]:
    """Numbers of the channels meant by names or numbers; all of them for None.

    Raises
    ------
    MethodError
        If the image has no such channel.
    """
    if wanted is None:
        return tuple(range(len(info.channels)))
    return tuple(_channel(item, info, name) for item in wanted)


def _channel(wanted: int | str, info: ImageInfo, name: str) -> int:
    if isinstance(wanted, int) and 0 <= wanted < len(info.channels):
        return wanted
    if isinstance(wanted, str) and wanted in info.channels:
        return info.channels.index(wanted)
    listed = ", ".join(f"{i}: {channel}" for i, channel in enumerate(info.channels))
    hint = nearest(wanted, info.channels) if isinstance(wanted, str) else ""
    raise MethodError(
        name,
        f"there is no channel {wanted!r}{hint}; the image has {listed}",
        "Name one of them in the recipe's source.channels or measure.channels.",
    )


def check_dtype(info: ImageInfo, name: str) -> None:
    """Refuse pixels that are no real numbers."""
    if np.dtype(info.dtype).kind not in "iuf":
        raise MethodError(name, f"pixels of type {info.dtype} cannot be segmented")
