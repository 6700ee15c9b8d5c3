"""A published multiscale array, as the viewer has to be told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
import zarr

from pipeline.errors import ViewError
from pipeline.sources.ome_zarr_metadata import ome_attributes, read_multiscale
from pipeline.sources.units import MICROMETRES, SECONDS
from pipeline.storage import AnyPath, is_inside
from pipeline.storage.zarr_store import zarr_place

#: What the viewer draws; of whole numbers int64 is missing, of the others all but this one.
DRAWN = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "float32")

#: A step along an axis and its unit: "m", "s" or "".
Step = tuple[float, str]


@dataclass(frozen=True, slots=True)
class Multiscale:
    """Level 0 of a multiscale array.

    Parameters
    ----------
    url : str
        Where its group is served, with the format that the viewer shall read.
    axes : tuple of str
        Of "tczyx", in the order of the array.
    sizes : dict of str to int
        Pixels along each axis.
    steps : dict of str to (float, str)
        Size of a pixel along each axis.
    dtype : str
    attributes : mapping
        The OME part of the group's attributes.
    first : dict of str to float
        Where the first pixel lies along each axis, in pixels.
    """

    url: str
    axes: tuple[str, ...]
    sizes: dict[str, int]
    steps: dict[str, Step]
    dtype: str
    attributes: Mapping[str, Any]
    first: dict[str, float]


def open_multiscale(folder: AnyPath, place: str, url: str) -> Multiscale:
    """Read the metadata of a multiscale array.

    Parameters
    ----------
    folder : Path or StorePath
        The OME-Zarr, with all links followed.
    place : str
        The group in it.
    url : str
        Where `folder` is served.

    Raises
    ------
    ViewError
        It is not inside the folder, is no multiscale array, or none that the viewer draws.
    """
    path = (folder / place).resolve()
    if not is_inside(path, folder):
        raise ViewError(f"{path} is not inside {folder}")
    try:
        group = zarr.open_group(zarr_place(path), mode="r", use_consolidated=False)
        attributes: Any = ome_attributes(dict(group.attrs))
        scale = read_multiscale(attributes)
        array: Any = group[scale.path]
    except Exception as error:  # zarr raises its own, and those of JSON
        raise ViewError(f"{path} cannot be opened: {error}") from error
    if array.dtype.name not in DRAWN:
        raise ViewError(f"the viewer cannot draw pixels of {array.dtype.name}")
    within = f"{quote(place)}/" if place else ""
    steps = scale.scale or (1.0,) * len(scale.axes)
    moved = scale.translation or (0.0,) * len(scale.axes)
    named = zip(scale.axes, steps, scale.units, strict=True)
    return Multiscale(
        f"{url}{within}|zarr{group.metadata.zarr_format}:",
        scale.axes,
        dict(zip(scale.axes, array.shape, strict=True)),
        {axis: _step(step, unit) for axis, step, unit in named},
        array.dtype.name,
        attributes,
        {axis: at / step for axis, at, step in zip(scale.axes, moved, steps, strict=True)},
    )


def color_of(rgb: Sequence[Any]) -> str:
    """Red, green and blue of 0 to 255 as #rrggbb."""
    return "#" + "".join(f"{int(np.clip(part, 0, 255)):02x}" for part in rgb[:3])


def _step(step: float, unit: str) -> Step:
    if unit in MICROMETRES:
        # 1e-6 is no binary number: what is written in the file shall be read in the viewer.
        return float(f"{step * MICROMETRES[unit] * 1e-6:.12g}"), "m"
    return (step * SECONDS[unit], "s") if unit in SECONDS else (step, "")
