"""Companions: files beside an image that its recipe names, such as seeds, boxes or markers.

A recipe gives a pattern, "{stem}.seeds.csv" or "../seeds/{stem}.tif", from the image's own folder;
{stem} is the image's name without folder and suffix. A pattern without it is one file for all. What
a companion holds decides the labels, so its fingerprint is part of the image's plan.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from pipeline.errors import MethodError, TilewrightError
from pipeline.image import ImageInfo
from pipeline.sources import SourceSpec, discover, expand, open_source
from pipeline.sources.fingerprint import fingerprint_file
from pipeline.sources.names import split_suffix
from pipeline.storage import AnyPath, path_of


def _check_pattern(pattern: str) -> str:
    other = re.findall(r"[{}]", pattern.replace("{stem}", ""))
    if other or not pattern.strip():
        raise ValueError('name a file beside the image, for example "{stem}.seeds.csv"')
    return pattern


#: How a recipe names a companion.
Pattern = Annotated[str, AfterValidator(_check_pattern)]

#: Suffixes of companions that are no images.
TABLES = (".csv", ".geojson", ".json")


@dataclass(frozen=True, slots=True)
class Companion:
    """A file beside an image.

    Parameters
    ----------
    path : str
    fingerprint : str
        Another string means that the content changed.
    source : SourceSpec or None
        How its pixels are read, where it is an image.
    info : ImageInfo or None
        Sizes of the image.
    """

    path: str
    fingerprint: str
    source: SourceSpec | None = None
    info: ImageInfo | None = None


def companion_path(pattern: str, spec: SourceSpec) -> AnyPath:
    """Where the companion of an image lies."""
    place = path_of(spec.path)
    stem = split_suffix(place.name)[0] + (f"_{spec.ending}" if spec.ending else "")
    # Not resolve(): a link in the archive has its companions beside itself.
    found = place.parent / pattern.replace("{stem}", stem)
    return Path(os.path.normpath(found)) if isinstance(found, Path) else found


def find_companions(patterns: Mapping[str, str], spec: SourceSpec) -> dict[str, Companion]:
    """Find and open the companions of an image.

    Parameters
    ----------
    patterns : dict
        What each is for -> its pattern, as `Method.companions` gives them.
    spec : SourceSpec
        The image.

    Raises
    ------
    MethodError
        If one is missing or cannot be read.
    """
    return {key: _open(companion_path(p, spec), spec, key) for key, p in patterns.items()}


def _open(path: AnyPath, spec: SourceSpec, key: str) -> Companion:
    try:
        there = path.exists()
    except OSError as error:
        raise MethodError(spec.name, f"its {key} file {path} cannot be read ({error})") from error
    if not there:
        raise MethodError(
            spec.name,
            f"its {key} file {path} does not exist",
            "Put it there, or correct `file:` in the recipe's segment section.",
        )
    try:
        if path.suffix.lower() in TABLES:
            return Companion(str(path), fingerprint_file(path))
        (image,) = [image for found in discover(path) for image in expand(found)]
        with open_source(image) as source:
            return Companion(str(path), source.fingerprint(), image, source.info)
    except (TilewrightError, OSError, ValueError) as error:
        raise MethodError(
            spec.name,
            f"its {key} file {path} is neither a table nor one image ({error})",
            f"Use {', '.join(TABLES)}, or a format that images may have.",
        ) from error


def without_companions(specs: Sequence[SourceSpec], patterns: Iterable[str]) -> list[SourceSpec]:
    """The images of an archive that are no companions of other images."""
    wanted = list(patterns)
    pairs = (
        (spec.path, str(companion_path(pattern, spec))) for pattern in wanted for spec in specs
    )
    taken = {companion for image, companion in pairs if companion != image}
    return [spec for spec in specs if spec.path not in taken]
