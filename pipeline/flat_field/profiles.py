"""Profiles: gain and offset of a camera's frame, from files and to files."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Annotated, Any, TypeAlias

import numpy as np
import tifffile
from numpy.typing import NDArray
from pydantic import BeforeValidator, PlainSerializer, SerializationInfo

from pipeline.box import Box
from pipeline.errors import TilewrightError
from pipeline.files import digest, write_atomically
from pipeline.sources import discover, expand, open_source
from pipeline.storage import AnyPath, absolute_path, path_of

Floats = NDArray[np.float32]

#: A gain is divided by its mean, unless that is this near to 1.
NORMALISED = 1e-3
#: Fact of a run: the profiles that it published, see `write_profiles`.
PROFILES = "profiles"
#: Key of a profile that is meant for all channels.
ALL = ""


@dataclass(frozen=True, slots=True)
class ProfileFile:
    """A file with a profile, as it was when the recipe was read.

    Parameters
    ----------
    path : str
    digest : str
        Of its pixels.
    shape : tuple of int
        (C, Y, X).
    """

    path: str
    digest: str
    shape: tuple[int, int, int]

    def plane(self, number: int) -> Floats:
        """The plane (Y, X) of a channel of the image, which is the only one if there is one."""
        found: Floats = _pixels(self.path, self.digest)[number if self.shape[0] > 1 else 0]
        return found

    def gain(self, number: int) -> Floats:
        """The plane of a channel, with a mean of 1."""
        return _gain(self, number)


@functools.lru_cache(maxsize=16)
def _pixels(path: str, expected: str) -> Floats:
    pixels = read_pixels(path_of(path))
    if digest(np.ascontiguousarray(pixels).data.cast("B")) != expected:
        raise ValueError(f"{path}: has changed since the run began")
    return pixels


def read_pixels(path: AnyPath) -> Floats:
    """Pixels (C, Y, X) of a NumPy array or of an image in any format that images may have."""
    if path.suffix.lower() == ".npy":
        array = _numpy_array(path)
        if array.ndim not in (2, 3):
            raise ValueError(f"{path}: an array of shape (Y, X) or (C, Y, X), not {array.shape}")
        found = array.reshape(-1, *array.shape[-2:])
    else:
        images = [image for item in discover(path) for image in expand(item)]
        if len(images) != 1:
            raise ValueError(f"{path}: holds {len(images)} images; a profile is one")
        with open_source(images[0]) as source:
            t, c, z, y, x = source.info.shape
            if t * z != 1:
                raise ValueError(f"{path}: a profile is one plane, not {t} x {z}")
            found = source.read(0, range(c), Box.whole((1, y, x)))[:, 0]
    return np.ascontiguousarray(found, np.float32)


def _numpy_array(path: AnyPath) -> NDArray[Any]:
    remedy = "Write it with numpy.save as an array of float32"
    try:
        array: NDArray[Any] = np.lib.format.read_array(
            BytesIO(path.read_bytes()), allow_pickle=False
        )
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: holds no array of plain numbers ({error}). {remedy}") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{path}: its values are {array.dtype}, and gains are numbers. {remedy}")
    return array


def _find(given: Any) -> Any:
    if isinstance(given, Mapping):
        return {str(key): _file(value) for key, value in given.items()}
    return {ALL: _file(given)}


def _file(given: Any) -> ProfileFile:
    if isinstance(given, ProfileFile):
        return given
    if not isinstance(given, str):
        raise ValueError("a profile is named by a path")  # noqa: TRY004 - for pydantic
    path = absolute_path(path_of(given))
    try:
        pixels = read_pixels(path)
    except (TilewrightError, OSError) as error:
        raise ValueError(str(error).rstrip(".")) from error
    if not np.isfinite(pixels).all():
        raise ValueError(f"{path}: some of its values are no finite numbers")
    channels, height, width = pixels.shape
    return ProfileFile(str(path), digest(pixels.data.cast("B")), (channels, height, width))


def _shown(files: Mapping[str, ProfileFile], info: SerializationInfo) -> Any:
    # What a profile holds decides labels, not where it lies.
    identity = isinstance(info.context, dict) and info.context.get("identity")
    shown = {key: one.digest if identity else one.path for key, one in files.items()}
    return shown[ALL] if list(shown) == [ALL] else shown


#: In a recipe: a path, or a path for each channel, by its name or number.
ProfileFiles: TypeAlias = Annotated[
    Mapping[str, ProfileFile],
    BeforeValidator(_find, json_schema_input_type=str | dict[str, str]),
    PlainSerializer(_shown),
]


def file_of(files: Mapping[str, ProfileFile], name: str, number: int) -> ProfileFile | None:
    """The file for a channel; None if there is none."""
    return files.get(name) or files.get(str(number)) or files.get(ALL)


@functools.lru_cache(maxsize=16)
def _gain(file: ProfileFile, number: int) -> Floats:
    gain = file.plane(number)
    mean = float(gain.mean(dtype=np.float64))
    if abs(mean - 1) <= NORMALISED:
        return gain
    return (gain / mean).astype(np.float32)


def write_profiles(
    folder: AnyPath, channels: Sequence[str], flat: Floats, dark: Floats
) -> dict[str, str]:
    """Write <channel>-flat.tif and, where it is not 0, <channel>-dark.tif.

    Parameters
    ----------
    folder : Path or StorePath
    channels : sequence of str
    flat, dark : ndarray of shape (C, Y, X)

    Returns
    -------
    dict
        File name -> digest of its bytes.
    """
    found: dict[str, str] = {}
    for name, gain, offset in zip(channels, flat, dark, strict=True):
        plain = re.sub(r"[^\w.-]", "_", name)
        for kind, plane in (("flat", gain), ("dark", offset)):
            if kind == "dark" and not plane.any():
                continue
            path = folder / f"{plain}-{kind}.tif"
            data = _tiff(plane)
            write_atomically(path, data)
            found[path.name] = digest(data)
    return found


def _tiff(plane: Floats) -> bytes:
    file = BytesIO()
    tifffile.imwrite(file, plane, photometric="minisblack", software="tilewright")
    return file.getvalue()


def damaged_profiles(folder: AnyPath, known: str | None) -> list[str]:
    """Which of the profiles on record (JSON of `write_profiles`) are not as they were written."""
    damaged = []
    for name, expected in json.loads(known or "{}").items():
        try:
            if digest((folder / name).read_bytes()) != expected:
                damaged.append(f"{folder / name}: the profile was changed")
        except OSError as error:
            damaged.append(f"{folder / name}: the profile cannot be read ({error})")
    return damaged
